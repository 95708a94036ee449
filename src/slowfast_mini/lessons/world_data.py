"""Batches of the procedural world for the trainer: moments with dense labels, clips with questions.

A data set is a range of seeds: item i is always the same, so a run can be resumed exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from slowfast_mini import world
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.conversations import IGNORED

_DRAWS = 2  # sets of questions to choose from: a set has one or two of each type
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> float32 (T, 3, H, W) with CLIP statistics."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@dataclass(frozen=True)
class FramesDataset(Dataset):
    """Frames of `count` clips from `first_seed` on: uint8 (T, size, size, 3)."""

    first_seed: int
    count: int
    num_frames: int
    size: int
    photos: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        script = world.sample_script(self.first_seed + index)
        times = world.frame_times(script.duration, self.num_frames)
        return world.render(script, times, self.size, self.photos)


@dataclass(frozen=True)
class Moment:
    """A frame between its two neighbours: `frames` uint8 (3, S, S, 3), `interval` in seconds."""

    frames: np.ndarray
    interval: float
    labels: world.DenseLabels


@dataclass(frozen=True)
class MomentDataset(Dataset):
    """One moment of each clip: the most variety for the tower. Kept once rendered.

    Two of three clips are met when something happens, many of these when a glyph flashes or a
    picture is inserted: left to chance, that would be too rare to learn.
    """

    first_seed: int
    count: int
    num_frames: int
    size: int
    photos: tuple[str, ...] = ()
    _kept: dict[int, Moment] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Moment:
        if index not in self._kept:
            self._kept[index] = self._render(self.first_seed + index)
        return self._kept[index]

    def _render(self, seed: int) -> Moment:
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, self.num_frames)
        rng = np.random.default_rng(script.seed)
        moment = int(rng.integers(1, self.num_frames - 1))
        brief = [event.time for event in (script.flash, script.needle) if event is not None]
        interval = float(times[1] - times[0])  # what leaves is last seen a frame before
        others = [t for o in script.objects for t in (o.appear, o.disappear - interval, *o.hops)]
        others += [o.change.time for o in script.objects if o.change] + list(script.cuts)
        happens = [t for t in others if 0 < t < script.duration]
        chance = rng.random()
        if chance < 2 / 3 and (brief or happens):
            chosen = brief if brief and (chance < 0.4 or not happens) else happens
            seen = int(np.searchsorted(times, rng.choice(chosen)))
            moment = min(max(seen, 1), self.num_frames - 2)
        times = times[moment - 1 : moment + 2]
        frames = world.render(script, times, self.size, self.photos)
        return Moment(frames, interval, world.dense_labels(script, times))


def collate_dense(moments: Sequence[Moment]) -> dict[str, Tensor]:
    """Frames, and what is under each cell of all but the first and last frame.

    Returns:
        `pixel_values_videos` (B, T, 3, H, W) and, for the T' = T - 2 inner frames: `shape`,
        `color`, `glyph`, `event` (B, T', g, g) int64; `object_motion` (B, T', g, g, 2) and
        `camera_motion` (B, T', 4) float32 per frame interval; `cut`, `needle`, `steady` (B, T')
        float32.
    """
    labels = [moment.labels for moment in moments]

    def stack(name: str) -> Tensor:
        return torch.stack([torch.from_numpy(getattr(x, name)[1:-1]) for x in labels])

    # The tower sees displacements between frames, not speeds.
    scale = torch.tensor([moment.interval for moment in moments], dtype=torch.float32)
    return {
        "pixel_values_videos": torch.stack([normalise(moment.frames) for moment in moments]),
        **{name: stack(name).long() for name in ("shape", "color", "glyph", "event")},
        "object_motion": stack("object_motion").float() * scale.view(-1, 1, 1, 1, 1),
        "camera_motion": stack("camera_motion").float() * scale.view(-1, 1, 1),
        **{name: stack(name).float() for name in ("cut", "needle", "steady")},
    }


@dataclass(frozen=True)
class SeenClip:
    """A clip as a frozen tower left it (see `SlowFastModel.vision_maps`), and what to ask of it.

    `maps` (T, h, w, C), `motion` (T, h', w', 16) and, of models with an object tower, `objects`
    (T, N, features) in bfloat16, `timestamps` (T,) in seconds.
    `apart`: the questions are not turns of one conversation but each the first one of its own.
    """

    maps: Tensor
    motion: Tensor
    timestamps: Tensor
    questions: list[world.QA]
    apart: bool = False
    objects: Tensor | None = None


@dataclass(frozen=True)
class SeenClipDataset(Dataset):
    """Each clip `epochs` times, with other questions and other words each time.

    `maps` and `motion` have one entry per clip; item i is visit i // clips of clip i % clips.
    `weights`: how often a type of question is drawn beside the others; 1 where nothing is said.
    `chinese`, `multiple_choice`: shares of the visits in Chinese and of the questions with options.
    `asked_frames`: questions are those that so many frames can decide; default: those of `maps`.
    `apart`: share of the visits whose questions do not see one another.
    """

    first_seed: int
    epochs: int
    questions_per_clip: int
    weights: dict[str, float]
    chinese: float
    multiple_choice: float
    maps: Tensor
    motion: Tensor
    asked_frames: int | None = None
    apart: float = 0.0

    def __len__(self) -> int:
        return len(self.maps) * self.epochs

    def __getitem__(self, index: int) -> SeenClip:
        visit, clip = divmod(index, len(self.maps))
        script = world.sample_script(self.first_seed + clip)
        times = world.frame_times(script.duration, self.maps.shape[1])
        seen = world.frame_times(script.duration, self.asked_frames or self.maps.shape[1])
        rng = np.random.default_rng([script.seed, visit])
        language = "zh-TW" if rng.random() < self.chinese else "en"
        drawn = [
            qa
            for _ in range(_DRAWS)
            for qa in world.questions(script, rng, seen, language, self.multiple_choice)
        ]
        # The same answer again, in other words, would be copied and not looked for.
        questions = list({(qa.type, qa.form, qa.answer): qa for qa in drawn}.values())
        weights = np.array([self.weights.get(qa.type, 1.0) for qa in questions])
        count = min(self.questions_per_clip, len(questions))
        chosen = rng.choice(len(questions), count, replace=False, p=weights / weights.sum())
        return SeenClip(
            self.maps[clip],
            self.motion[clip],
            torch.from_numpy(times).float(),
            [questions[i] for i in chosen],
            bool(rng.random() < self.apart),
        )


@dataclass(frozen=True)
class ConversationCollator:
    """One row a clip: its video, several questions, loss on answers only. What was seen of the
    clips (`maps`, `motion`, `timestamps`, `objects`) are lists: stills have one frame.

    Questions that are asked apart share the row of their video and nothing else: `group` tells
    which tokens may see each other (0: seen by all that come later, -1: padding), and the positions
    of each begin where the video ends.
    """

    processor: SlowFastProcessor

    def __call__(self, clips: Sequence[SeenClip]) -> dict[str, Any]:
        rows = [self._tokens(clip) for clip in clips]
        names = ("input_ids", "labels", "position_ids", "group")
        fillers = (self.processor.tokenizer.pad_token_id, IGNORED, 0, -1)
        columns: dict[str, Any] = {
            name: pad_sequence([torch.tensor(row[i]) for row in rows], True, filler)
            for i, (name, filler) in enumerate(zip(names, fillers, strict=True))
        }
        parts = ["maps", "motion", "timestamps"]
        parts += ["objects"] if self.processor.num_objects else []
        # Copies: a part of a mapped file cannot be handed over by a process that loads data.
        return columns | {part: [getattr(clip, part).clone() for clip in clips] for part in parts}

    def _tokens(self, clip: SeenClip) -> tuple[list[int], ...]:
        """Ids, labels, positions and groups of a row."""
        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        groups: list[int] = []
        shared = 0  # tokens until the end of the video
        for turn, qa in enumerate(clip.questions):
            prompt = self.prompt(clip, qa.question, first=turn == 0 or clip.apart)
            if turn == 0 and clip.apart:
                last = len(prompt) - prompt[::-1].index(self.processor.video_token_id)
                shared = last + 1  # a line's end
                groups = [0] * shared
                positions = list(range(shared))
                ids, labels = prompt[:shared], [IGNORED] * shared
            prompt = prompt[shared:]
            answer = self._encode(qa.answer + "<|im_end|>")
            ids += prompt + answer
            labels += [IGNORED] * len(prompt) + answer
            length = len(prompt) + len(answer)
            first = shared if clip.apart else len(positions)
            positions += range(first, first + length)
            groups += [turn + 1 if clip.apart else 0] * length
        return ids, labels, positions, groups

    def prompt(self, clip: SeenClip, question: str, first: bool = True) -> list[int]:
        """Ids of a turn until its answer; the first brings the placeholders of the video."""
        ids = self._encode(turn_prompt(question, first))
        return self._expand(ids, clip) if first else ids

    def _encode(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False).input_ids

    def _expand(self, ids: list[int], clip: SeenClip) -> list[int]:
        """One placeholder per fast token."""
        layout, token = self.processor.token_layout, self.processor.video_token_id
        size = [cells * layout.patch_size for cells in clip.maps.shape[1:3]]
        place = ids.index(token)
        count = layout.video_tokens(len(clip.timestamps), *size)
        return ids[:place] + [token] * count + ids[place + 1 :]


def turn_prompt(question: str, first: bool) -> str:
    """What the chat template writes before an answer; the first turn brings the video."""
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>" if first else ""
    video = "<video>\n" if first else ""
    return f"{head}\n<|im_start|>user\n{video}{question}<|im_end|>\n<|im_start|>assistant\n"
