"""Training: recipes are checked, batches are true, interrupted runs end as if they were not."""

import errno
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import Trainer

from slowfast_mini import world
from slowfast_mini.lessons import everyday, photo_scenes, run
from slowfast_mini.lessons.grown_model import _name_directions, grow
from slowfast_mini.lessons.new_model import new_model, new_tokenizer
from slowfast_mini.lessons.optimizer import WideMuon
from slowfast_mini.lessons.recipe import ModelRecipe, Recipe, StageRecipe, load_recipe
from slowfast_mini.lessons.seen_clips import SeenClipModel, see_clips
from slowfast_mini.lessons.world_data import (
    IGNORED,
    ConversationCollator,
    MomentDataset,
    SeenClipDataset,
    collate_dense,
    normalise,
)
from slowfast_mllm import load
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel
from slowfast_mllm.model.object_tracks import track_features
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.recipe_file import RecipeError
from slowfast_mllm.train.run_folder import TrainingError, last_checkpoint

RECIPES = Path(__file__).parents[3] / "recipes"
HAN = re.compile("[\u4e00-\u9fff]")
TINY = ModelRecipe(
    image_size=96,
    num_frames=6,
    vision_depths=[1, 1, 1],
    vision_dims=[8, 12, 24],
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    hybrid_layers=[1],
    slow_spatial_pool=2,
    fast_temporal_pool=3,
    fast_spatial_pool=1,
    min_fast_frames=2,
    vocab_size=400,
)
STAGE = StageRecipe("tower", "dense", clips=12, first_seed=5, batch_size=4, learning_rate=1e-3)
RECIPE = Recipe(
    name="tiny",
    seed=1,
    model=TINY,
    stages=[
        STAGE,
        replace(
            STAGE,
            name="instruct",
            kind="questions",
            questions_per_clip=2,
            chinese=0.3,
            muon_learning_rate=2e-3,
            multiple_choice=0.3,
            apart=0.5,
        ),
    ],
)


def test_the_packaged_models_recipe_parses() -> None:
    recipe = load_recipe(RECIPES / "default_model.yaml")
    assert recipe.stages
    assert max(recipe.model.hybrid_layers) < recipe.model.num_layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("seed:", "sede:", 1), "unknown key 'sede'"),
        (lambda text: text.replace("    kind: dense\n", "", 1), r"stages\[0\]: missing key 'kind'"),
        (lambda text: text + "\n  - [", "not valid YAML"),
        (lambda text: text.replace(" order: ", " ordre: "), "question_weights: ordre"),
        (lambda text: re.sub(r" order: [\d.]+", " order: 0", text), "numbers above 0"),
        (lambda text: text.replace(" order: ", " order: much"), "is not a number"),
        (lambda text: text.replace("kind: dense", "kind: denes"), "unknown 'denes'"),
        (lambda text: text.replace("name: instruct", "name: tower"), "'tower' is taken"),
        (lambda text: text.replace("[48, 96, 192]", "[48, wide]"), r"vision_dims\[1\]: 'wide'"),
        (lambda text: text.split("stages:")[0] + "stages:", "stages: expected a list"),
        (lambda text: "hello", "expected `key: value` lines"),
        (lambda text: "weights: a/model\n" + text, "'dense' would begin the rest of the model"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(change((RECIPES / "default_model.yaml").read_text()))
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dense_labels_fit_the_frames() -> None:
    data = MomentDataset(first_seed=0, count=4, num_frames=32, size=96)
    batch = collate_dense([data[i] for i in range(4)])
    assert batch["pixel_values_videos"].shape == (4, 3, 3, 96, 96)
    assert batch["shape"].shape == batch["color"].shape == (4, 1, 6, 6)
    assert ((batch["shape"] > 0) == (batch["color"] > 0)).all()
    again = collate_dense([data[i] for i in range(4)])
    assert all((batch[name] == again[name]).all() for name in batch)


def seen_clips(
    folder: Path, epochs: int = 1
) -> tuple[SlowFastForConditionalGeneration, SeenClipDataset]:
    model = new_model(TINY, new_tokenizer(TINY.vocab_size, num_scripts=20))
    stage = replace(STAGE, kind="questions", clips=3, epochs=epochs, questions_per_clip=3)
    return model, see_clips(model, TINY, stage, folder, num_workers=0)


def test_a_token_has_at_most_one_chinese_character() -> None:
    """Else a question in other words would consist of tokens that were hardly ever met."""
    tokenizer = new_tokenizer(600, num_scripts=40)
    words = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    assert max(len(HAN.findall(word)) for word in words) == 1
    assert max(len(word) for word in words if word.isascii()) > 5
    text = "第 2 秒，紅色的星形？ The red star moves."
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_conversations_carry_loss_on_answers_only(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(TINY.vocab_size, num_scripts=20)
    model, data = seen_clips(tmp_path)
    clips = [data[i] for i in range(2)]
    batch = ConversationCollator(SlowFastProcessor.from_config(model.config, tokenizer))(clips)
    for row, clip in enumerate(clips):
        taught = batch["labels"][row]
        text = tokenizer.decode(taught[taught != IGNORED])
        spoken = [part.strip() for part in text.split("<|im_end|>") if part]
        assert spoken == [qa.answer for qa in clip.questions]
    SeenClipModel(model)(**batch)["loss"].backward()  # as many placeholders as fast tokens


def test_questions_asked_apart_are_each_the_first(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(TINY.vocab_size, num_scripts=20)
    model, data = seen_clips(tmp_path)
    for layer in TINY.hybrid_layers:  # a closed gate would hide what the slow tokens bring
        model.model.language_model.layers[layer].self_attn.cross_attn.gate.scale.data.fill_(1.0)
    collate = ConversationCollator(SlowFastProcessor.from_config(model.config, tokenizer))
    learner = SeenClipModel(model)
    clips = [data[0], replace(data[1], apart=True)]
    each = [replace(clips[1], questions=[qa]) for qa in clips[1].questions]
    alone = [collate([clip]) for clip in each]
    taught = [int((batch["labels"] != IGNORED).sum()) for batch in alone]
    expected = sum(learner(**b)["loss"] * n for b, n in zip(alone, taught, strict=True))
    batch = collate(clips)  # the other row is padded, or pads this one
    both = (batch["labels"] != IGNORED).sum(1)
    first = learner(**collate(clips[:1]))["loss"] * both[0]
    assert both[1] == sum(taught)
    torch.testing.assert_close(learner(**batch)["loss"] * both.sum(), first + expected)
    together = learner(**collate([replace(clips[1], apart=False)]))["loss"] * both[1]
    assert not torch.isclose(together, expected, rtol=1e-5)


def test_maps_get_their_room_before_they_are_made(tmp_path: Path, monkeypatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TrainingError, match=r"maps\.bin: .* is the disk full"):
        seen_clips(tmp_path)


def test_kept_maps_say_what_the_frames_say(tmp_path: Path) -> None:
    model, data = seen_clips(tmp_path)
    clip = world.sample_clip(STAGE.first_seed + 1, num_frames=TINY.num_frames)
    seen = data[1]
    with torch.no_grad():
        maps = model.model.slow_maps(seen.maps.float(), seen.motion, seen.timestamps)
        kept = model.model.fast_and_slow(maps)
        fresh = model.model.visual_tokens(normalise(clip.frames), seen.timestamps)
    for mine, theirs in zip(kept, fresh, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.05, atol=0.05)  # bfloat16


def test_every_visit_asks_something_else(tmp_path: Path) -> None:
    _, data = seen_clips(tmp_path, epochs=2)
    assert len(data) == 6
    first, second = data[1], data[4]
    assert torch.equal(first.maps, second.maps)
    assert first.questions != second.questions
    assert first.questions == data[1].questions


def test_an_interrupted_run_ends_as_if_it_were_not(tmp_path: Path, monkeypatch) -> None:
    whole = run.train(RECIPE, tmp_path / "whole", num_workers=0, save_steps=1)
    step = Trainer.training_step
    start, starts = run.start_from_dense_stage, iter([KeyboardInterrupt])
    calls: list[int] = []

    def killed(self: Trainer, *args, **kwargs) -> torch.Tensor:
        calls.append(1)
        if len(calls) in (3, 6):  # once in each stage
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    def killed_between(*args) -> None:
        for interruption in starts:
            raise interruption
        start(*args)

    monkeypatch.setattr(Trainer, "training_step", killed)
    monkeypatch.setattr(run, "start_from_dense_stage", killed_between)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run.train(RECIPE, tmp_path / "broken", num_workers=0, save_steps=1)
    resumed = run.train(RECIPE, tmp_path / "broken", num_workers=0, save_steps=1)
    assert len(calls) == 8  # 6 steps and 2 interruptions: nothing was done twice
    first, second = (load_file(f / "model.safetensors") for f in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    clip = world.sample_clip(0, num_frames=6)
    assert isinstance(load(whole).ask(clip.frames, "What?", max_new_tokens=3).text, str)


def test_a_saved_model_learns_on(tmp_path: Path) -> None:
    questions = replace(RECIPE.stages[1], learning_rate=1e-9, muon_learning_rate=None)
    saved = run.train(replace(RECIPE, stages=[questions]), tmp_path / "first", num_workers=0)
    more = replace(RECIPE, seed=9, stages=[questions], weights=str(saved))
    again = run.train(more, tmp_path / "second", num_workers=0)
    first, second = (load_file(f / "model.safetensors") for f in (saved, again))
    for name in first:  # but for steps of next to nothing
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=1e-6)
    ids = [load(f).processor.tokenizer("Which way?").input_ids for f in (saved, again)]
    assert ids[0] == ids[1]
    other = replace(more, model=replace(TINY, num_heads=4))
    with pytest.raises(TrainingError, match="num_attention_heads is 2 there, but 4 by `model`"):
        run.train(other, tmp_path / "third", num_workers=0)
    with pytest.raises(TrainingError, match="no model to go on from"):
        run.train(replace(more, weights=str(tmp_path)), tmp_path / "fourth", num_workers=0)


def test_a_model_gets_eyes_for_everyday_things(tmp_path: Path, monkeypatch) -> None:
    torch.manual_seed(0)
    detector = NanoDetModel(
        NanoDetConfig(stem_width=8, pyramid_width=16, stage_blocks=[1, 1, 1, 1], image_size=96,
                      num_objects=3)
    )  # fmt: skip
    detector.save_pretrained(tmp_path / "tower")
    (tmp_path / "photos").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i}.jpg")
    monkeypatch.setattr(everyday, "_DRAWN_SEEN", 2)
    few = partial(new_tokenizer, num_scripts=20)
    monkeypatch.setattr(run, "new_tokenizer", few)
    questions = replace(RECIPE.stages[1], clips=4)
    saved = run.train(replace(RECIPE, stages=[questions]), tmp_path / "first", num_workers=0)
    stage = replace(questions, name="everyday", kind="everyday", scenes=2, tracks=4)
    recipe = replace(
        RECIPE, stages=[stage], weights=str(saved), tower=str(tmp_path / "tower"),
        photos=str(tmp_path / "photos"), model=replace(TINY, vocab_size=420),
    )  # fmt: skip
    grown = load(run.train(recipe, tmp_path / "second", num_workers=0))
    assert len(grown.processor.tokenizer) == 420
    assert grown.processor.token_layout.num_objects == 3
    tower = grown.model.model.object_tower.state_dict()
    for name, weight in detector.state_dict().items():
        torch.testing.assert_close(tower[name].float(), weight.bfloat16().float())
    clip = world.sample_clip(0, num_frames=6)
    assert isinstance(grown.ask(clip.frames, "What is there?", max_new_tokens=3).text, str)


def test_nobody_is_on_drawn_clips_and_stills_are_asked_of_things_only(tmp_path: Path) -> None:
    _, drawn = seen_clips(tmp_path)
    objects = torch.zeros(3, 1, 2, 80 + 11)
    objects[:, :, 0, [15, 80, 81, 82, 83, 80 + 5]] = 0.6  # a cat
    stills = everyday.Seen(torch.zeros(3, 1, 6, 6, 24), torch.zeros(3, 1, 3, 3, 16), objects)
    scenes = everyday.Seen(*(part[:0] for part in (stills.maps, stills.motion, objects)))
    empty = torch.zeros(1, 6, 2, 80 + 11)
    data = everyday.EverydayDataset(
        drawn=replace(drawn, epochs=20), drawn_objects=empty, scenes=scenes, stills=stills,
        first_scene=0, visits=4, simulated=empty[:0], simulated_visits=1, weights={},
        questions_per_clip=3, chinese=0.0, apart=0.5,
    )  # fmt: skip
    assert len(data) == 20 * len(drawn) + 3
    asked = [qa for i in range(60) for qa in data[i].questions]
    nobody = [qa for qa in asked if qa.type in ("thing presence", "people")]
    assert len(asked) > 10 * len(nobody) / 3 > 0
    assert {qa.answer for qa in nobody} <= {"No.", "None.", "沒有。"}
    still = data[60]
    assert len(still.timestamps) == len(still.maps) == 1
    assert all(qa.type.startswith(("thing", "people")) for qa in still.questions)


def test_pieces_of_photographs_pass_over_a_scene() -> None:
    """What moves by itself, under a camera that rests."""
    white, black = torch.ones(4, 3, 64, 64), torch.zeros(3, 30, 40)
    points = photo_scenes._points(np.zeros((4, 2)), np.ones(4), np.zeros(4), 64)
    assert points[0, 0, 0].tolist() == pytest.approx([-0.5 + 1 / 128] * 2)
    moved = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        pictures = photo_scenes._passed_over(white, black, points, np.arange(4.0), rng)
        assert pictures.min() == 0  # the piece is seen
        assert pictures.max() == 1  # and does not fill the frame
        moved += not torch.equal(pictures[0], pictures[3])
    assert 0 < moved < 8


def test_the_token_of_a_thing_says_its_name_from_where_it_is_sure(tmp_path: Path) -> None:
    """And is silent about what a track is not sure of."""
    NanoDetModel(NanoDetConfig()).save_pretrained(tmp_path)
    packaged = load(dtype="float32")
    torch.manual_seed(0)
    new = new_tokenizer(600, num_scripts=20)
    grown = grow(packaged.model, packaged.processor.tokenizer, new, tmp_path)
    directions = _name_directions(grown, new)
    found = torch.zeros(1, 3, grown.config.object_config.hidden_size)
    found[0, :, 80 + 5] = 1  # seen
    tokens = []
    for score in (0.0, 0.35, 0.6):
        found[0, range(3), [0, 16, 41]] = score  # a person, a dog, a cup
        tokens.append(grown.model.object_projector(track_features(found, 80))[0])
    unsure, sure = tokens[1] - tokens[0], tokens[2] - tokens[0]
    assert (unsure.norm(dim=1)[1:] < 0.15 * sure.norm(dim=1)[1:]).all()
    alike = torch.nn.functional.cosine_similarity(sure, directions[[0, 16, 41]])
    assert (alike > 0.9).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower": "a/tower"}, "give the model that gets it"),
        ({"stage": {"kind": "everyday"}}, "scenes, tracks"),
        ({"stage": {"kind": "everyday", "scenes": 5, "tracks": 5}}, "needs a folder of them"),
    ],
)
def test_an_everyday_stage_says_what_it_lacks(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = yaml.safe_load((RECIPES / "default_model.yaml").read_text())
    content["stages"] = [content["stages"][1] | change.pop("stage", {})]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "recipe.yaml")


def test_photos_are_looked_at_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"broken\.jpg: not a picture"):
        run.train(replace(RECIPE, photos=str(tmp_path)), tmp_path / "run", num_workers=0)
    with pytest.raises(TrainingError, match="no folder with pictures"):
        run.train(replace(RECIPE, photos=str(tmp_path / "run")), tmp_path / "run", num_workers=0)


def test_a_loss_that_is_no_number_stops_a_stage(tmp_path: Path) -> None:
    stages = [replace(stage, learning_rate=1e30) for stage in RECIPE.stages]
    with pytest.raises(TrainingError, match=r"the loss is nan for its \d clips"):
        run.train(replace(RECIPE, stages=stages), tmp_path, num_workers=0)


def test_a_checkpoint_cut_off_while_written_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((3, '{"global_step": 3}'), (12, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")


def test_several_processes_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="runs in one process"):
        run.train(RECIPE, tmp_path)


@pytest.mark.parametrize("trace", ["checkpoint-3", "done", "weights.safetensors", "model"])
def test_another_recipe_may_not_go_on_in_the_same_folder(tmp_path: Path, trace: str) -> None:
    (tmp_path / "recipe.txt").write_text("another")
    (tmp_path / "tower" / trace).mkdir(parents=True)
    with pytest.raises(TrainingError, match="another recipe"):
        run.train(RECIPE, tmp_path)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_muon_in_float32_does_as_torchs(shape: tuple[int, int]) -> None:
    options = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    first = torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    mine, theirs = (torch.nn.Parameter(first.detach().clone()) for _ in range(2))
    optimizers = WideMuon([mine], **options), torch.optim.Muon([theirs], **options)
    for step in range(3):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(10 + step))
        for weight, optimizer in zip((mine, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - first).norm()
    assert (mine - theirs).norm() < 0.02 * moved  # theirs rounds to bfloat16
    assert moved > 0.05
