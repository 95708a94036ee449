"""A model over two processes, or partly on the disk, gives what it gives in one piece."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sharing_process import FEW, QUESTION, asked, logits_of
from transformers import AutoModelForImageTextToText, AutoTokenizer
from typer.testing import CliRunner

from slowfast_cli.main import app as cli
from slowfast_mini import WEIGHTS
from slowfast_mllm import ModelError, SlowFast, auto, load
from slowfast_mllm.engine import Batcher
from slowfast_mllm.engine.loading import load_processor, ready_to_ask
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.sharding import placed
from slowfast_mllm.processing import SlowFastProcessor

auto.register()
TESTS = Path(__file__).parents[1]
CLIP = str(TESTS.parent / "examples" / "shapes.mp4")
_TEXT = {"vocab_size": 3072, "hidden_size": 32, "head_dim": 8, "intermediate_size": 50}
_TEXT |= {"num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4}
_TEXT |= {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}


_FIELDS = {"visual_position_encoding", "motion_features"}


def tiny(family: str = "qwen3", **settings: Any) -> SlowFastForConditionalGeneration:
    """A random model with open gates, so that slow tokens matter."""
    fields = {name: settings.pop(name) for name in _FIELDS & set(settings)}
    vision = {"model_type": "slowfast_convnext", "image_size": 32, "depths": [1, 1]}
    vision |= {"num_channels": 5 if "motion_features" in fields else 3}
    config = SlowFastConfig(
        text_config={"model_type": family, **_TEXT, **settings},
        vision_config=vision | {"hidden_sizes": [8, 16]},
        hybrid_layers=[0, 2],
        fast_temporal_pool=4,
        min_fast_frames=3,
        image_token_id=3,
        video_token_id=4,
        **fields,
    )
    torch.manual_seed(0)
    model = SlowFastForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
            if name.endswith("gate.scale"):
                weight.add_(1.0)
    return model


def save(model: SlowFastForConditionalGeneration, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    SlowFastProcessor.from_config(model.config, tokenizer, num_frames=8).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a checkpoint, a memory that it made, and one in the official layout."""
    folder = tmp_path_factory.mktemp("spread")
    save(tiny(), folder / "checkpoint")
    shutil.copytree(TESTS / "model" / "golden" / "s1t4", folder / "official")
    load(folder / "checkpoint", device="cpu").index(CLIP, folder / "one.sfmem", "exact")
    return folder


@pytest.fixture(scope="module")
def one(folder) -> SlowFast:
    return load(folder / "checkpoint", device="cpu")


@pytest.fixture(scope="module")
def expected(one, folder) -> dict[str, Any]:
    return asked(one, CLIP, str(folder / "one.sfmem"))


@pytest.fixture(scope="module")
def two(folder) -> tuple[list[dict[str, Any]], list[str]]:
    """What each of two processes found, and what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name("sharing_process.py"))]
    running = [
        subprocess.Popen(
            [*command, str(folder), CLIP],
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said
    found = [torch.load(folder / f"{rank}.pt") for rank in "01"]
    return found, [out for out, _ in said]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if name in ("evidence", "likelihoods"):
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)
        else:
            assert found[name] == value, name


def test_two_processes_give_the_logits_and_answers_of_one(two, one, expected, folder) -> None:
    official = AutoModelForImageTextToText.from_pretrained(folder / "official", dtype=torch.float32)
    whole = sum(weight.numel() for weight in one.model.model.language_model.layers.parameters())
    for found in two[0]:
        assert_same(found, expected)
        torch.testing.assert_close(found["logits"], logits_of(one.model), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["official"], logits_of(official), rtol=1e-4, atol=1e-4)
        assert found["held"] < 0.6 * (whole + 2 * one.model.lm_head.weight.numel())
    assert two[0][0]["drawn"] == two[0][1]["drawn"]  # without a seed


def test_memories_and_checkpoints_of_two_processes_are_whole(two, one, expected, folder) -> None:
    kept = one.encode(folder / "one.sfmem").memory
    back = one.encode(folder / "two.sfmem").memory
    for layer in (0, 2):
        torch.testing.assert_close(back.slow_keys[layer], kept.slow_keys[layer])
        torch.testing.assert_close(back.slow_values[layer], kept.slow_values[layer])
    assert {found["again"] for found in two[0]} == {expected["answer"]}
    saved = load_file(folder / "saved" / "model.safetensors")
    for name, weight in load_file(folder / "checkpoint" / "model.safetensors").items():
        assert torch.equal(saved[name], weight), name


def test_the_first_of_the_processes_prints_the_answer(two, expected) -> None:
    assert two[1] == [expected["told"] + "\n", ""]


@pytest.mark.parametrize("share", [0.6, 0.02])
def test_a_model_partly_on_the_disk_answers_alike(share, folder, one, expected) -> None:
    room = int(share * sum(4 * weight.numel() for weight in one.model.parameters()))
    model = SlowFastForConditionalGeneration.from_pretrained(
        folder / "checkpoint", device_map="auto", max_memory={"cpu": room}, dtype=torch.float32
    )
    assert "disk" in model.hf_device_map.values()
    processor = load_processor(str(folder / "checkpoint"))
    ready_to_ask(model, processor)
    spread = SlowFast(model, processor)
    assert_same(asked(spread, CLIP, str(folder / "one.sfmem")), expected)
    with pytest.raises(ValueError, match="no running batch"):
        Batcher(spread)
    spread.index(CLIP, folder / "disk.sfmem", "exact")
    assert one.ask(folder / "disk.sfmem", QUESTION, **FEW).text == expected["answer"]


def test_a_layer_is_not_torn_apart() -> None:
    assert {"ConvNextBlock", "Qwen3DecoderLayer"} <= set(tiny()._no_split_modules)


@pytest.mark.parametrize("split", range(4))
def test_layers_on_two_devices_find_what_they_need_there(split) -> None:
    """Meta stands for the second device: whatever meets it from the CPU is an error."""
    dispatch_model = pytest.importorskip("accelerate").dispatch_model
    model = tiny(visual_position_encoding=True, motion_features=True)
    memory = model.encode_video(torch.randn(4, 3, 32, 32))
    here = "cpu" if split else "meta"
    place = {f"model.language_model.{name}": here for name in ("embed_tokens", "rotary_emb")}
    place |= {f"model.language_model.layers.{i}": "cpu" if i < split else "meta" for i in range(3)}
    place |= {"model.language_model.norm": "meta", "lm_head": "meta", "model.vision_tower": "cpu"}
    place |= {f"model.{n}": here for n in ("multi_modal_projector", "visual_position_embedding")}
    skip = model._skip_keys_device_placement
    dispatch_model(model, place, main_device="cpu", skip_keys=skip)
    model._hf_hook.io_same_device = False
    ids = torch.tensor([[1, *[4] * len(memory.fast_tokens), 6]])
    for video in (placed(memory, model), model.encode_video(torch.randn(4, 3, 32, 32))):
        assert model(input_ids=ids, video_memory=video).logits.device.type == "meta"


def test_a_split_model_is_not_trained() -> None:
    model = tiny()
    model._tp_size = 2
    with pytest.raises(ValueError, match="is not trained"):
        model(input_ids=torch.tensor([[5, 6]]), labels=torch.tensor([[5, 6]]))


def test_auto_is_everything_there_is(folder, expected) -> None:
    everywhere = load(folder / "checkpoint", device="auto", dtype="float32")
    assert everywhere.ask(folder / "one.sfmem", QUESTION, **FEW).text == expected["told"]


@pytest.mark.parametrize(
    ("processes", "text", "options", "message"),
    [
        ("1", {}, {}, "start them with `torchrun"),
        ("3", {}, {}, "8 heads with 4 of keys do not split over 3 processes; start 2 or 4"),
        ("2", {"num_key_value_heads": 1}, {}, "do not split over 2 processes; use --device auto"),
        ("2", {"family": "stablelm"}, {}, "cannot split .stablelm."),
        ("2", {}, {"compile": True}, "leave out --compile"),
        ("2", {}, {"quantize": "int8"}, "leave out --quantize"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(
    processes, text, options, message, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("RANK", "0")
    checkpoint = save(tiny(**text), tmp_path / "checkpoint")
    with pytest.raises(ModelError, match=message) as caught:
        load(checkpoint, device="tp", **options)
    assert "\n" not in str(caught.value)


def test_many_videos_are_not_for_processes(monkeypatch, tmp_path) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "2")
    captions = ["caption", str(TESTS.parent / "examples"), "-o", str(tmp_path / "captions.jsonl")]
    for verb in (captions, ["search", str(TESTS), "a star"], ["chat", CLIP]):
        told = CliRunner().invoke(cli, [*verb, "--device", "tp"], env={"COLUMNS": "500"})
        assert told.exit_code == 2
        assert "here use --device auto" in told.output


def test_heads_of_another_model_are_no_memory() -> None:
    model, other = tiny(), tiny(num_key_value_heads=2)
    frames = torch.randn(4, 3, 32, 32)
    memory = other.encode_video(frames)
    ids = torch.tensor([[1, *[4] * len(memory.fast_tokens), 6]])
    with pytest.raises(ValueError, match="2 key heads beside 8 of queries"):
        model(input_ids=ids, video_memory=memory)
