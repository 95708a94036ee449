"""Training on records: what learns, what a first step sees, and runs that are cut off."""

import dataclasses
import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Phi3Config, Qwen2Config, Trainer

from slowfast_mini.lessons.recipe import check_recipe as check_world_recipe
from slowfast_mllm import load
from slowfast_mllm.model import SlowFastConvNextModel, SlowFastVisionConfig
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel
from slowfast_mllm.train.assemble import (
    AssemblyError,
    assemble,
    pixel_statistics,
    start_slow_path,
)
from slowfast_mllm.train.conversations import Encoder, PreferenceCollator, PreferenceEncoder
from slowfast_mllm.train.fine_tune import _start, choose_parts, fine_tune
from slowfast_mllm.train.recipe import (
    TRAINABLE,
    FineTuneRecipe,
    FineTuneStage,
    Source,
    Start,
    load_recipe,
)
from slowfast_mllm.train.recipe_file import RecipeError, read_recipe
from slowfast_mllm.train.record import RecordError
from slowfast_mllm.train.record_trainer import RecordTrainer, part_of
from slowfast_mllm.train.records import read_records
from slowfast_mllm.train.run_folder import TrainingError

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "shapes.mp4"
PACKAGED = ROOT / "src" / "slowfast_mini" / "weights"
TEXT = dict(
    vocab_size=99,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
TOWER = dict(image_size=32, depths=[1, 1], hidden_sizes=[8, 16], layer_scale_init=1.0)
STAGE = {"name": "x", "data": [{"path": "r"}], "train": ["slow"], "learning_rate": 1e-3}
FIELDS = dict(
    hybrid_layers=[0, 2],
    fast_temporal_pool=2,
    min_fast_frames=2,
    image_token_id=1000,
    video_token_id=1001,
)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """A language model of transformers and a ConvNeXt in the layout of timm."""
    torch.manual_seed(0)
    text, tower = tmp_path / "text", tmp_path / "tower"
    AutoModelForCausalLM.from_config(Qwen2Config(**TEXT)).save_pretrained(text)
    tower.mkdir()
    trunk = SlowFastConvNextModel(SlowFastVisionConfig(**TOWER))
    save_file(trunk.state_dict(), tower / "model.safetensors")
    (tower / "config.json").write_text(json.dumps(TOWER))
    return text, tower


def test_the_first_step_is_the_language_model_with_fast_tokens(parts: tuple[Path, Path]) -> None:
    text, tower = parts
    model = assemble(str(text), str(tower), **FIELDS).eval()
    plain = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32).eval()
    trunk = load_file(tower / "model.safetensors")
    mine = model.model.vision_tower.state_dict()
    assert all(torch.equal(mine[name], trunk[name]) for name in trunk)
    frames = torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        memory = model.encode_video(frames)
        fast = memory.fast_tokens
        ids = torch.tensor([[5, *[1001] * len(fast), 7, 8, 9]])
        words = plain.get_input_embeddings()(ids.clamp(max=98))
        words[0, 1 : 1 + len(fast)] = fast
        labels = ids.clamp(max=98)
        # Placeholders are never learned, whoever made the labels.
        expected = plain(inputs_embeds=words, labels=labels.masked_fill(ids > 98, -100))
        got = model(input_ids=ids, video_memory=memory, labels=labels)
    torch.testing.assert_close(got.logits, expected.logits)
    torch.testing.assert_close(got.loss, expected.loss)


def test_slow_keys_and_values_start_as_the_layers_own(parts: tuple[Path, Path]) -> None:
    model = assemble(*map(str, parts), **FIELDS)
    seen = torch.randn(5, 48)
    for index in (0, 2):
        attention = model.model.language_model.layers[index].self_attn
        keys, values = attention.cross_attn.project(seen)
        own = [p(seen).view(5, 2, 12).transpose(0, 1) for p in (attention.k_proj, attention.v_proj)]
        torch.testing.assert_close([keys, values], own)


def test_fused_projections_are_split_per_head(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    phi = tmp_path / "phi"
    AutoModelForCausalLM.from_config(Phi3Config(**TEXT)).save_pretrained(phi)
    model = assemble(str(phi), str(parts[1]), **FIELDS)
    attention = model.model.language_model.layers[2].self_attn
    weight = attention.qkv_proj.weight  # 48 rows of queries, 24 of keys, 24 of values
    assert torch.equal(attention.cross_attn.k_proj.weight, weight[48:72])
    assert torch.equal(attention.cross_attn.v_proj.weight, weight[72:96])


def test_an_object_tower_comes_with_its_weights_and_keeps_them(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    small = NanoDetConfig(num_classes=4, stem_width=8, stage_blocks=(1,) * 4, pyramid_width=16)
    trained = NanoDetModel(small)
    trained.save_pretrained(tmp_path / "objects")
    model = assemble(*map(str, parts), object_tower=str(tmp_path / "objects"), **FIELDS)
    assert model.config.object_config.given == "objects"
    mine = model.model.object_tower.state_dict()
    assert all(torch.equal(mine[name], weight) for name, weight in trained.state_dict().items())
    stage = FineTuneStage("x", [Source("r")], list(TRAINABLE), 1e-3)
    choose_parts(model, dataclasses.replace(stage, train=["projector"]))
    learn = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert learn == {"multi_modal_projector", "object_projector"}
    choose_parts(model, stage)
    assert not any(p.requires_grad for p in model.model.object_tower.parameters())
    with pytest.raises(AssemblyError, match="not an object tower"):
        assemble(*map(str, parts), object_tower=str(parts[0]), **FIELDS)


def test_parts_that_do_not_fit_are_named(parts: tuple[Path, Path], tmp_path: Path) -> None:
    text, tower = parts
    with pytest.raises(AssemblyError, match="not a language model"):
        assemble(str(tmp_path / "nothing"), str(tower))
    with pytest.raises(AssemblyError, match="not a vision tower"):
        assemble(str(text), str(tmp_path / "nothing"))
    with pytest.raises(AssemblyError, match="hybrid_layers"):
        assemble(str(text), str(tower), **FIELDS | {"hybrid_layers": [7]})
    (tower / "config.json").write_text(json.dumps(TOWER | {"hidden_sizes": [8, 24]}))
    with pytest.raises(AssemblyError, match="of another shape"):
        assemble(str(text), str(tower), **FIELDS)
    (tower / "config.json").write_text(json.dumps(TOWER | {"depths": [2, 1]}))
    with pytest.raises(AssemblyError, match="is missing"):
        assemble(str(text), str(tower), **FIELDS)
    for broken in ('{"depths": ', "[]"):
        (tower / "config.json").write_text(broken)
        with pytest.raises(AssemblyError, match=r"tower/config\.json: "):
            assemble(str(text), str(tower), **FIELDS)


def test_pixels_are_normalised_as_the_tower_knows_them(parts: tuple[Path, Path]) -> None:
    assert pixel_statistics(str(parts[1])) == {}
    known = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.4, 0.4, 0.4]}
    (parts[1] / "preprocessor_config.json").write_text(json.dumps({"size": 3} | known))
    tokenizer = load(device="cpu").processor.tokenizer
    AutoModelForCausalLM.from_config(
        Qwen2Config(**TEXT | {"vocab_size": len(tokenizer)})
    ).save_pretrained(parts[0])
    tokenizer.save_pretrained(parts[0])
    start = Start(None, *map(str, parts), config={"hybrid_layers": [0, 2]})
    recipe = FineTuneRecipe("n", 1, start, [])
    _, processor = _start(recipe, None)
    for part in (processor.image_processor, processor.video_processor):
        assert {name: list(getattr(part, name)) for name in known} == known


# ---- runs on the packaged model ------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Five records with a clip, one of text alone, one whose clip is broken."""
    shutil.copy(CLIP, tmp_path / "good.mp4")
    (tmp_path / "broken.mp4").write_bytes(CLIP.read_bytes()[:2000])
    rows = [
        {
            "video": name,
            "conversations": [
                {"from": "human", "value": f"<video>\nQuestion {number}?"},
                {"from": "gpt", "value": "A star moves to the left." * (number % 3 + 1)},
            ],
        }
        for number, name in enumerate(["good.mp4"] * 5 + ["broken.mp4"])
    ]
    text = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    path = tmp_path / "records.json"
    path.write_text(json.dumps([*rows, text]))
    return path


def recipe(records: Path, **changes: object) -> FineTuneRecipe:
    source = [Source(str(records))]
    common = dict(batch_size=2, logging_steps=1, gradient_checkpointing=False)
    first = FineTuneStage("align", source, ["projector", "slow"], 1e-3, 2e-4, **common)
    second = FineTuneStage(
        "instruct", source, ["slow"], 1e-3, lora_rank=4, eval_data=source, **common
    )
    plain = FineTuneRecipe(
        "test", 3, Start(checkpoint=str(PACKAGED)), [first, second], num_frames=4, bf16=False
    )
    return dataclasses.replace(plain, **changes)


def test_a_run_learns_its_parts_and_lists_what_it_left_out(tmp_path: Path, records: Path) -> None:
    plan = recipe(records, fit="pad")
    model = fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=2)
    before = load(PACKAGED).model.state_dict()
    aligned = load(tmp_path / "run" / "align" / "model").model.state_dict()
    changed = {part_of(n) for n in before if not torch.equal(before[n], aligned[n])}
    assert changed == {"projector", "slow"}
    after = load(model)
    assert after.processor.video_processor.fit == "pad"
    tuned = {part_of(n) for n, w in after.model.state_dict().items() if not w.equal(aligned[n])}
    assert tuned == {"language_model", "slow"}  # adapters are merged
    assert after.ask(CLIP, "What happens?", num_frames=4, max_new_tokens=4).text
    skipped = (tmp_path / "run" / "align" / "skipped.jsonl").read_text()
    assert "records.json[5]" in skipped
    assert not list((tmp_path / "run").glob("*/model/*.bin"))


def test_a_killed_run_ends_as_if_it_were_not(tmp_path: Path, records: Path, monkeypatch) -> None:
    plan = recipe(records)
    stages = [dataclasses.replace(stage, epochs=2) for stage in plan.stages]
    plan = dataclasses.replace(plan, stages=stages)
    whole = fine_tune(plan, tmp_path / "whole", num_workers=0, save_steps=1)
    step = Trainer.training_step
    calls: list[int] = []

    def killed(self: Trainer, *args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) in (7, 13):  # once in each stage, and in its second epoch
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fine_tune(plan, tmp_path / "broken", num_workers=0, save_steps=1)
    resumed = fine_tune(plan, tmp_path / "broken", num_workers=0, save_steps=1)
    assert len(calls) == 18  # 16 steps and 2 interruptions
    first, second = (load_file(f / "model.safetensors") for f in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_bad_records_can_be_refused(tmp_path: Path, records: Path) -> None:
    with pytest.raises(RecordError, match=r"records\.json\[5\].*refuse"):
        fine_tune(recipe(records, bad_records="refuse"), tmp_path / "run", num_workers=0)
    records.write_text(json.dumps([{"video": "x.mp4"}]))
    with pytest.raises(TrainingError, match="not one usable record"):
        fine_tune(recipe(records), tmp_path / "other", num_workers=0)


def test_settings_that_leave_nothing_to_learn_from_are_named(tmp_path: Path, records: Path) -> None:
    plan = recipe(records)
    stage = dataclasses.replace(plan.stages[0], data=[Source(str(records), weight=0.01)])
    with pytest.raises(TrainingError, match="`weight` leaves none of 7 usable"):
        fine_tune(dataclasses.replace(plan, stages=[stage]), tmp_path / "run", num_workers=0)
    (tmp_path / "zero.json").write_text("{")
    with pytest.raises(AssemblyError, match=r"zero\.json: cannot be read as JSON"):
        fine_tune(recipe(records, deepspeed=str(tmp_path / "zero.json")), tmp_path / "run")


def test_a_run_that_learned_nothing_is_no_success(tmp_path: Path, records: Path) -> None:
    for _ in range(2):  # what a failed run leaves does not make the next one a success
        with pytest.raises(TrainingError, match="nothing was learned"):
            fine_tune(recipe(records, max_length=1), tmp_path / "run", num_workers=0)
    assert "more than max_length 1" in (tmp_path / "run" / "align" / "skipped.jsonl").read_text()


def test_a_start_without_all_its_weights_is_refused(tmp_path: Path, records: Path) -> None:
    shutil.copytree(PACKAGED, tmp_path / "less")
    weights = load_file(tmp_path / "less" / "model.safetensors")
    weights.popitem()
    save_file(weights, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    for start in (tmp_path / "less", tmp_path / "gone"):
        plan = recipe(records, start=Start(checkpoint=str(start)))
        with pytest.raises(TrainingError, match=f"{start}: cannot be started from"):
            fine_tune(plan, tmp_path / "run", num_workers=0)


def test_a_wrong_folder_of_clips_stops_a_run_before_it_begins(
    tmp_path: Path, records: Path
) -> None:
    records.write_text(json.dumps(json.loads(records.read_text())[:-1]))  # no record of text alone
    plan = recipe(records)
    elsewhere = [Source(str(records), media=str(tmp_path / "elsewhere"))]
    stage = dataclasses.replace(plan.stages[0], data=elsewhere)
    plan = dataclasses.replace(plan, stages=[stage])
    with pytest.raises(TrainingError, match=r"not one usable.*records\.json\[0\].*no such file"):
        fine_tune(plan, tmp_path / "run", num_workers=0)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, records: Path) -> None:
    plan = recipe(records)
    wild = dataclasses.replace(plan.stages[0], learning_rate=1e30, slow_learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss is nan for \['.*records\.json\["):
        fine_tune(dataclasses.replace(plan, stages=[wild]), tmp_path / "run", num_workers=0)


def test_a_gradient_that_is_no_number_stops_the_run(
    tmp_path: Path, records: Path, monkeypatch
) -> None:
    monkeypatch.setattr(Trainer, "_clip_grad_norm", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(TrainingError, match=r"the gradient is inf for \['.*records\.json\["):
        fine_tune(recipe(records), tmp_path / "run", num_workers=0)
    assert not list((tmp_path / "run").glob("*/checkpoint-*"))


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, records: Path) -> None:
    plan = recipe(records)
    plan = dataclasses.replace(plan, stages=plan.stages[:1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # as if the rest were taken
    try:
        with pytest.raises(TrainingError, match="is the disk full"):
            fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1))


def test_a_damaged_checkpoint_is_named(tmp_path: Path, records: Path, monkeypatch) -> None:
    plan = recipe(records)
    plan = dataclasses.replace(plan, stages=plan.stages[:1])
    with monkeypatch.context() as patch:
        patch.setattr("slowfast_mllm.train.fine_tune._save", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1)
    newest = tmp_path / "run" / "align" / "checkpoint-4" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="newest checkpoint is damaged"):
        fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1)


def test_records_that_came_back_are_no_longer_listed(tmp_path: Path, records: Path) -> None:
    plan = recipe(records, bad_records="skip", max_length=1)
    (tmp_path / "broken.mp4").unlink()
    with pytest.raises(TrainingError, match="nothing was learned"):
        fine_tune(plan, tmp_path / "run", num_workers=0)
    assert "no such file" in (tmp_path / "run" / "align" / "skipped.jsonl").read_text()
    shutil.copy(CLIP, tmp_path / "broken.mp4")
    plan = recipe(records)
    plan = dataclasses.replace(plan, stages=plan.stages[:1])
    fine_tune(plan, tmp_path / "run", num_workers=0)
    assert not (tmp_path / "run" / "align" / "skipped.jsonl").exists()


def test_a_run_tells_that_its_records_have_changed(
    tmp_path: Path, records: Path, monkeypatch, caplog
) -> None:
    plan = recipe(records)
    plan = dataclasses.replace(plan, stages=plan.stages[:1])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("slowfast_mllm.train.fine_tune._save", killed)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1)
    records.write_text(json.dumps(json.loads(records.read_text())[1:]))
    fine_tune(plan, tmp_path / "run", num_workers=0, save_steps=1)
    assert "its records have changed" in caplog.text


def preferences(folder: Path, clips: list[str]) -> Path:
    """One of each clip."""
    shutil.copy(CLIP, folder / "good.mp4")
    (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:2000])
    rows = [
        {
            "prompt": [
                {
                    "role": "user",
                    "content": [
                        {"type": "video", "path": clip},
                        {"type": "text", "text": f"How does the camera move, {number}?"},
                    ],
                }
            ],
            "chosen": "It zooms in.",
            "rejected": "It pans to the left.",
        }
        for number, clip in enumerate(clips)
    ]
    path = folder / "preferences.json"
    path.write_text(json.dumps(rows))
    return path


def prefer(path: Path, parts: list[str], weight: float = 1, **changes: object) -> FineTuneRecipe:
    stage = FineTuneStage(
        "prefer", [Source(str(path), weight=weight)], parts, 5e-4, method="dpo",
        gradient_checkpointing=False, logging_steps=1, **changes,
    )  # fmt: skip
    return FineTuneRecipe(
        "test", 3, Start(checkpoint=str(PACKAGED)), [stage], num_frames=4, bf16=False
    )


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_preferences_move_apart(tmp_path: Path, lora_rank: int) -> None:
    pytest.importorskip("trl")
    path = preferences(tmp_path, ["good.mp4"] * 4)
    (record, *_) = read_records(path)
    encode = PreferenceEncoder(Encoder(load(PACKAGED).processor, 4, 512))
    batch = PreferenceCollator(0)([{"item": encode(record)}])
    mask, ids = batch.pop("completion_mask")[:, 1:], batch["input_ids"]

    def margin(folder: Path) -> float:
        """How much likelier the better answer is."""
        inputs = {k: v for k, v in batch.items() if k not in ("records", "skipped")}
        with torch.no_grad():
            logits = load(folder).model(**inputs).logits[:, :-1].log_softmax(-1)
        words = logits.gather(-1, ids[:, 1:, None])[..., 0] * mask
        return float(words.sum(1)[0] - words.sum(1)[1])

    parts = ["slow"] if lora_rank else ["slow", "language_model"]
    plan = prefer(path, parts, 4, batch_size=2, lora_rank=lora_rank)
    model = fine_tune(plan, tmp_path / "run", num_workers=0)
    assert margin(model) > margin(PACKAGED) + 1


def test_a_preference_left_out_takes_nothing_from_the_others(tmp_path: Path) -> None:
    pytest.importorskip("trl")

    def first_log(*clips: str) -> dict[str, float]:
        path, run = preferences(tmp_path, list(clips)), tmp_path / f"run{len(clips)}"
        fine_tune(prefer(path, ["slow"], gradient_accumulation=len(clips)), run, num_workers=0)
        state = next((run / "prefer").glob("checkpoint-*/trainer_state.json"))
        return json.loads(state.read_text())["log_history"][0]

    alone, beside = first_log("good.mp4"), first_log("good.mp4", "broken.mp4")
    assert alone["loss"] == pytest.approx(math.log(2), abs=1e-4)
    for name in ("loss", "grad_norm", "logps/chosen"):
        assert beside[name] == pytest.approx(alone[name], rel=1e-3)


def test_preferences_can_be_sent_to_another_process(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("trl")
    sent: list[bytes] = []

    def send(trainer: RecordTrainer, **_: object) -> None:
        sent.append(pickle.dumps(trainer.train_dataset))

    monkeypatch.setattr(RecordTrainer, "train", send)
    with pytest.raises(TrainingError, match="nothing was learned"):
        fine_tune(prefer(preferences(tmp_path, ["good.mp4"]), ["slow"]), tmp_path / "run", 0)
    assert len(pickle.loads(sent[0])[0]["item"]["rejected_ids"])


def test_a_step_of_nothing_but_preferences_left_out_is_logged(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    path, run = preferences(tmp_path, ["good.mp4", "broken.mp4"]), tmp_path / "run"
    fine_tune(prefer(path, ["slow"], epochs=2), run, num_workers=0)
    assert "broken.mp4" in (run / "prefer" / "skipped.jsonl").read_text()


def test_every_recipe_parses_and_trains_something() -> None:
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        content = read_recipe(path)
        if "model" in content:  # of the packaged model
            assert check_world_recipe(content, path).stages
            continue
        plan = load_recipe(path)
        assert plan.stages
        if plan.start.checkpoint is None:
            rates = [(s.learning_rate, s.slow_learning_rate) for s in plan.stages]
            assert rates == [(1e-3, 2e-4), (2e-5, None)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"starts": 1}, "unknown key 'starts'"),
        ({"start": {}}, "either `checkpoint`, or"),
        ({"start": {"checkpoint": "x", "language_model": "y", "vision_tower": "z"}}, "either"),
        ({"bad_records": "hide"}, "unknown 'hide'"),
        ({"fit": "zoom"}, "unknown 'zoom'; known are crop, pad, squash"),
        ({"stages": 3}, "expected a list"),
        ({"stages": []}, "none given"),
        ({"num_frames": "many"}, "num_frames: 'many' is not a number"),
        ({"dtype": "bfloat16"}, "only under LoRA"),
        ({"seed": float("inf")}, "seed: inf is not a number"),
        ({"num_frames": 0}, "num_frames: 0; give a number above 0"),
        ({"stages": [STAGE | {"gradient_accumulation": 0}]}, "gradient_accumulation: 0"),
        ({"stages": [STAGE | {"data": [{"path": "r", "weight": -1}]}]}, "weight: -1"),
        ({"stages": [STAGE | {"data": [{"path": ""}]}]}, "path: empty"),
        ({"stages": [STAGE | {"name": "../elsewhere"}]}, "cannot be that of a folder"),
        ({"name": 5}, "name: expected text, found int"),
        ({"fsdp": True}, "fsdp: expected `key: value` lines"),
        ({"stages": [STAGE | {"max_steps": 0}]}, "max_steps: give a number above 0"),
        ({"stages": [STAGE | {"method": "grpo", "num_answers": 1}]}, "at least 2 answers"),
        ({"stages": [STAGE | {"method": "grpo", "temporal_contrast": 2}]}, "a share"),
        (
            {"dtype": "bfloat16", "bf16": False, "stages": [STAGE | {"lora_rank": 4}]},
            "bf16: false",
        ),
        (
            {
                "stages": [
                    {"name": "x", "data": [{"path": "r"}], "train": ["lungs"], "learning_rate": 1}
                ]
            },
            "lungs",
        ),
        (
            {"stages": [{"name": "x", "data": [{"path": "r"}], "train": [], "learning_rate": 1}]},
            "nothing would",
        ),
    ],
)
def test_a_wrong_recipe_names_the_key(tmp_path: Path, change: dict, reason: str) -> None:
    good = {"name": "n", "seed": 1, "start": {"checkpoint": "x"}, "stages": [STAGE]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(good))
    assert isinstance(load_recipe(path), FineTuneRecipe)
    path.write_text(yaml.safe_dump(good).replace("0.001", "1e-3"))  # words, to YAML
    assert load_recipe(path).stages[0].learning_rate == 0.001
    path.write_text(yaml.safe_dump(good | change))
    with pytest.raises(RecipeError, match=reason):
        load_recipe(path)


def test_only_chosen_parts_learn() -> None:
    model = load(PACKAGED).model
    stage = FineTuneStage("x", [], ["projector"], 1e-3)
    choose_parts(model, stage)
    learning = {part_of(n) for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {"projector"}
    start_slow_path(model)
    gates = [m.gate.scale.item() for m in model.modules() if hasattr(m, "gate")]
    assert gates == [0.0] * len(model.config.hybrid_layers)


def in_two_processes(*arguments: object) -> None:
    program = Path(__file__).parent / "two_processes.py"
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    done = subprocess.run(
        [sys.executable, *command, str(program), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "deepspeed"])
def test_two_processes_train_one_model(tmp_path: Path, records: Path, how: str) -> None:
    if how == "deepspeed":
        pytest.importorskip("deepspeed")
    in_two_processes(how, records, tmp_path / "run")
    before, after = (
        load(tmp_path / "run" / stage / "model").model.get_decoder().layers[0].mlp.up_proj.weight
        for stage in ("align", "instruct")
    )
    assert 0 < (after - before).abs().max() < 0.1 * before.abs().max()  # adapters are merged
    model = load(tmp_path / "run" / "instruct" / "model")
    assert model.ask(CLIP, "What happens?", num_frames=4, max_new_tokens=4).text
    state = json.loads(
        next((tmp_path / "run" / "align").glob("checkpoint-*/trainer_state.json")).read_text()
    )
    assert state["global_step"] == 2  # 7 records, 2 for each of 2 processes


@pytest.mark.slow
def test_two_processes_do_not_wait_for_a_preference_left_out(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    path = preferences(tmp_path, ["good.mp4", "good.mp4", "good.mp4", "broken.mp4"])
    in_two_processes("dpo", path, tmp_path / "run")
    assert "broken.mp4" in (tmp_path / "run" / "prefer" / "skipped.jsonl").read_text()
    assert load(tmp_path / "run" / "prefer" / "model")


@pytest.mark.slow
def test_a_sharded_model_learns_as_a_whole_one(tmp_path: Path) -> None:
    in_two_processes("fsdp", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "equal"
