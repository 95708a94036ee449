"""The stage in which words learn everyday things: photographs as scenes, tracks that nobody filmed,
and drawn clips beside them, so that nothing is lost.

What is asked about things is what the object tower's tokens tell by rule (`slowfast_mini.things`):
the words are to lose nothing of what the tower knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from slowfast_mini import world
from slowfast_mini.lessons.photo_scenes import PhotoScenes, PhotoStills, scene_script
from slowfast_mini.lessons.recipe import ModelRecipe, StageRecipe
from slowfast_mini.lessons.seen_clips import Clips, on_disk, see_clips, unseen, vision_files
from slowfast_mini.lessons.simulated_objects import Bank, simulate
from slowfast_mini.lessons.world_data import (
    FramesDataset,
    SeenClip,
    SeenClipDataset,
    normalise,
)
from slowfast_mini.things import CLASSES, ThingFacts, gather_things, is_known_now, thing_questions
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.hardware import bfloat16_is_fast
from slowfast_mllm.model.object_tracks import Detections

_DRAWN_SEEN = 60  # drawn clips that the object tower looks at
_SCENE_VISITS = 4  # of each scene in an epoch
_DRAWS = 5  # sets of questions to choose from
_NOBODY = 0.1  # of the questions about drawn clips are about everyday things, which are not there
# What can be asked of these where nothing is.
_OF_NOTHING = ("thing presence", "people")
# What the world can ask of a scene in which nothing is drawn.
_OF_SCENES = ("camera", "cuts", "fade", "text", "presence")


@dataclass(frozen=True)
class Seen:
    """What both towers made of clips: `maps`, `motion`, `objects`, an entry per clip."""

    maps: Tensor
    motion: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return len(self.maps)


@torch.no_grad()
def see(
    model: SlowFastForConditionalGeneration,
    clips: Clips,
    folder: Path,
    num_workers: int,
) -> Seen:
    """Run both towers over clips, or over those that an interrupted call left.

    Args:
        clips: of the size that the object tower reads.
        folder: gets `maps.bin`, `motion.bin` and `objects.bin` (bfloat16).
    """
    found, tower = model.config.object_config, model.model.object_tower
    maps, motion = vision_files(model, clips, folder)
    frames = (len(clips), clips.num_frames)
    objects = on_disk(folder / "objects.bin", *frames, found.num_objects, found.hidden_size)
    bfloat16 = bfloat16_is_fast(model.device)
    for index, pixels in unseen(model, clips, folder, num_workers):
        with torch.autocast(model.device.type, torch.bfloat16, bfloat16):
            seen, moves = model.model.vision_maps(pixels)
        assert moves is not None  # models of `new_model` have motion features
        maps[index], motion[index] = seen, moves
        objects[index] = tower.link(tower.detect(pixels))
    return Seen(maps, motion, objects)


@torch.no_grad()
def bank_of(model: SlowFastForConditionalGeneration, photos: Sequence[str]) -> Bank:
    """What the object tower finds in photographs."""
    size = model.config.object_config.image_size
    found: list[Detections] = []
    stills = PhotoStills(size, tuple(photos))
    for index in tqdm(range(len(stills)), desc="photographs through the object tower"):
        pixels = normalise(stills[index]).to(model.device)
        found += model.model.object_tower.detect(pixels)
    return Bank.of([d for d in found if len(d.boxes)])


def simulated_tracks(
    bank: Bank, count: int, seed: int, num_frames: int, num_objects: int
) -> Tensor:
    """`count` clips of tracks, bfloat16 (count, T, num_objects, features)."""
    clips = []
    for index in tqdm(range(count), desc="simulated tracks"):
        rng = np.random.default_rng([seed, index])
        times = world.frame_times(float(rng.uniform(4, 12)), num_frames)
        clips.append(simulate(rng, times, bank, num_objects).bfloat16())
    return torch.stack(clips)


def see_everyday(
    model: SlowFastForConditionalGeneration,
    recipe: ModelRecipe,
    stage: StageRecipe,
    folder: Path,
    num_workers: int,
    photos: tuple[str, ...],
) -> "EverydayDataset":
    """What a stage of everyday things trains on, or what is left to make of it."""
    found = model.config.object_config
    frames, size = recipe.num_frames, found.image_size
    tracks = folder / "tracks.safetensors"
    if not tracks.exists():
        folder.mkdir(parents=True, exist_ok=True)
        simulated = simulated_tracks(
            bank_of(model, photos), stage.tracks, stage.first_seed, frames, found.num_objects
        )
        new = tracks.with_suffix(".new")
        save_file({"tracks": simulated}, new)
        new.replace(tracks)
    some = FramesDataset(stage.first_seed + stage.clips, _DRAWN_SEEN, frames, size, photos)
    scenes = PhotoScenes(stage.first_seed, stage.scenes, frames, size, photos)
    return EverydayDataset(
        see_clips(model, recipe, stage, folder, num_workers, photos),
        see(model, some, folder / "drawn", num_workers).objects,
        see(model, scenes, folder / "scenes", num_workers),
        see(model, PhotoStills(size, photos), folder / "stills", num_workers),
        stage.first_seed,
        stage.epochs * _SCENE_VISITS,
        load_file(tracks)["tracks"],
        stage.epochs,
        stage.question_weights,
        stage.questions_per_clip,
        stage.chinese,
        stage.apart,
    )


@dataclass(frozen=True)
class EverydayDataset(Dataset):
    """Visits of drawn clips, of photographed scenes, of photographs as stills, each once an epoch,
    and of simulated tracks, in this order.

    `drawn_objects` (n, T, N, features) is what the object tower finds in some drawn clips: others
    get that of one of these. `simulated` (n, T, N, features) are tracks that nobody filmed, over a
    scene of any kind. `visits`: how often each scene comes, `simulated_visits` how often each of
    the tracks. The other fields are those of `SeenClipDataset`.
    """

    drawn: SeenClipDataset
    drawn_objects: Tensor
    scenes: Seen
    stills: Seen
    first_scene: int
    visits: int
    simulated: Tensor
    simulated_visits: int
    weights: dict[str, float]
    questions_per_clip: int
    chinese: float
    apart: float

    def __len__(self) -> int:
        return len(self.drawn) + self._of_scenes + self._of_stills + self._of_tracks

    @property
    def _of_scenes(self) -> int:
        return len(self.scenes) * self.visits

    @property
    def _of_stills(self) -> int:
        return len(self.stills) * self.visits // _SCENE_VISITS

    @property
    def _of_tracks(self) -> int:
        return len(self.simulated) * self.simulated_visits

    def __getitem__(self, index: int) -> SeenClip:
        if index < len(self.drawn):
            return self._drawn(index)
        index -= len(self.drawn)
        rng = np.random.default_rng([self.first_scene, index])
        if index < self._of_scenes:
            scene = index % len(self.scenes)
            return self._scene(scene, self.scenes.objects[scene], rng)
        index -= self._of_scenes
        if index < self._of_stills:
            return self._still(index % len(self.stills), rng)
        index -= self._of_stills
        scene = int(rng.integers(len(self.scenes)))
        return self._scene(scene, _renamed(self.simulated[index % len(self.simulated)], rng), rng)

    @property
    def _num_frames(self) -> int:
        return self.scenes.maps.shape[1]

    def _drawn(self, index: int) -> SeenClip:
        clip = self.drawn[index]
        questions = [qa for qa in clip.questions if not is_known_now(qa)] or clip.questions
        objects = self.drawn_objects[index * 7919 % len(self.drawn_objects)]
        facts = gather_things(objects.float().numpy(), clip.timestamps.numpy(), 0.0, True)
        rng = np.random.default_rng([self.drawn.first_seed, index])
        if not facts.things:
            asked = thing_questions(facts, rng, questions[0].language)
            nobody = [qa for qa in asked if qa.type in _OF_NOTHING]
            questions = [
                nobody[rng.integers(len(nobody))] if nobody and rng.random() < _NOBODY else qa
                for qa in questions
            ]
        return replace(clip, questions=questions, objects=objects.bfloat16())

    def _scene(self, scene: int, objects: Tensor, rng: np.random.Generator) -> SeenClip:
        script = scene_script(self.first_scene + scene)
        times = world.frame_times(script.duration, self._num_frames)
        language = self._language(rng)
        still = script.camera.motion == "still"
        facts = gather_things(objects.float().numpy(), times, script.duration, still)
        asked = world.questions(script, rng, times, language)
        drawn = [qa for qa in asked if qa.type in _OF_SCENES]
        seen = self.scenes.maps[scene], self.scenes.motion[scene], objects
        return self._asked(*seen, times, facts, drawn, language, rng)

    def _still(self, still: int, rng: np.random.Generator) -> SeenClip:
        objects, times = self.stills.objects[still], np.zeros(1)
        facts = gather_things(objects.float().numpy(), times, 0.0, True)
        seen = self.stills.maps[still], self.stills.motion[still], objects
        return self._asked(*seen, times, facts, [], self._language(rng), rng)

    def _language(self, rng: np.random.Generator) -> str:
        return "zh-TW" if rng.random() < self.chinese else "en"

    def _asked(
        self,
        maps: Tensor,
        motion: Tensor,
        objects: Tensor,
        times: np.ndarray,
        facts: ThingFacts,
        questions: list[world.QA],
        language: str,
        rng: np.random.Generator,
    ) -> SeenClip:
        """Some of the questions, and of those about things."""
        drawn = list(questions)
        for _ in range(_DRAWS):
            drawn += [_asked_openly(qa, rng) for qa in thing_questions(facts, rng, language)]
        questions = list({(qa.type, qa.form, qa.answer): qa for qa in drawn}.values())
        weights = np.array([self.weights.get(qa.type, 1.0) for qa in questions])
        count = min(self.questions_per_clip, len(questions))
        chosen = rng.choice(len(questions), count, replace=False, p=weights / weights.sum())
        return SeenClip(
            maps,
            motion,
            torch.from_numpy(times).float(),
            [questions[i] for i in chosen],
            bool(rng.random() < self.apart),
            objects.bfloat16(),
        )


def _renamed(tracks: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the visits: other things on the same ways, of any class but people."""
    if rng.random() < 0.5:
        return tracks
    others = torch.from_numpy(rng.permutation(np.arange(1, len(CLASSES))))
    order = torch.cat([torch.zeros(1, dtype=torch.int64), others])
    return torch.cat([tracks[..., order], tracks[..., len(CLASSES) :]], -1)


def _asked_openly(qa: world.QA, rng: np.random.Generator) -> world.QA:
    """Half of the descriptions are asked for in the words that ask for those of drawn clips: which
    are meant is seen, not said."""
    if qa.type != "thing describe" or rng.random() < 0.5:
        return qa
    return replace(qa, question=world.LANGUAGES[qa.language].ask("describe", rng, False))
