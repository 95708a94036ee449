"""Compiled decode steps and quantized weights: the same questions, (nearly) the same words."""

import gc
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from slowfast_mllm import ModelError, SlowFast, load
from slowfast_mllm.engine import MemoryCache
from slowfast_mllm.engine.batching import Request
from slowfast_mllm.engine.loading import convert_checkpoint, loading_options
from slowfast_mllm.model.cpu_linear import NarrowLinear, make_ready, quantized
from slowfast_mllm.model.cpu_quantizer import CpuWeightsConfig

GOLDEN = Path(__file__).parents[1] / "model" / "golden" / "s1t4"
CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTIONS = ("How does the camera move?", "What happens in the video?", "How many cuts are there?")


@pytest.fixture(scope="module")
def plain() -> SlowFast:
    return load(device="cpu")


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_steps_give_the_same_answers(plain: SlowFast) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = load(device="cpu", compile=True)
    for num_frames in (32, 8):  # another number of slow tokens
        mine = compiled.chat(CLIP, num_frames=num_frames)
        theirs = plain.chat(CLIP, num_frames=num_frames)
        for question in QUESTIONS:
            assert mine.ask(question).text == theirs.ask(question).text
    # A conversation that outgrows its room goes on in a larger one.
    long = {"max_new_tokens": 600}
    assert mine.ask(QUESTIONS[0], **long).text == theirs.ask(QUESTIONS[0], **long).text
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_compiling_without_a_compiler_says_so(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match=r"needs a C\+\+ compiler"):
        load(device="cpu", compile=True)


@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
def test_quantized_weights_answer_alike_and_take_less(plain: SlowFast, kind) -> None:
    pytest.importorskip("bitsandbytes" if kind == "nf4" else "onnxruntime")
    quantized = load(device="cpu", quantize=kind)

    def size(model: SlowFast) -> int:
        return sum(p.nbytes for p in model.model.model.language_model.layers.parameters())

    # Those of ONNX Runtime are no parameters; slow keys and values are left as they are.
    limit = {"int8": 0.16, "int4": 0.16, "nf4": 0.22}[kind]
    assert size(quantized) < limit * size(plain)
    same = [quantized.ask(CLIP, q).text == plain.ask(CLIP, q).text for q in QUESTIONS]
    assert sum(same) >= 2
    assert quantized.model.model.vision_tower.dtype == torch.float32


@pytest.mark.parametrize(("bits", "error"), [(8, 0.012), (4, 0.13)])
@pytest.mark.parametrize(("rows", "width", "size"), [(1, 64, 48), (7, 40, 33), (0, 32, 8)])
def test_a_narrow_layer_gives_nearly_what_the_wide_one_does(bits, error, rows, width, size) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    wide = torch.nn.Linear(width, size).requires_grad_(False)
    narrow = NarrowLinear(wide, bits)
    given = torch.randn(2, rows, width)
    product, expected = narrow(given), wide(given)
    assert product.shape == expected.shape
    assert (product - expected).norm() <= error * expected.norm()
    assert narrow(given.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_narrow_weights_answer_in_batches_chats_and_by_memory_as_alone(
    plain: SlowFast, kind
) -> None:
    pytest.importorskip("onnxruntime")
    narrow = load(device="cpu", quantize=kind)
    with pytest.raises(ValueError, match="is not saved once it is used"):
        narrow.model.save_pretrained("nowhere")
    assert narrow.fingerprint == plain.fingerprint  # what was remembered stays good
    seen = plain.encode(CLIP)
    alone = [narrow.ask(seen, question).text for question in QUESTIONS]
    assert narrow.chat(seen).ask(QUESTIONS[0]).text == alone[0]
    batch = narrow.generate([Request(seen, question) for question in QUESTIONS], max_batch=2)
    assert [answer.text for answer in batch] == alone
    pieces: list[str] = []
    narrow.ask(seen, QUESTIONS[0], pieces.append)
    assert "".join(pieces) == alone[0]
    word = alone[0].split()[2]
    assert narrow.ask(seen, QUESTIONS[0], stop=[word]).text == alone[0].split(word)[0].rstrip()
    likely = plain.ask(seen, QUESTIONS[2], num_beams=3).text
    assert narrow.ask(seen, QUESTIONS[2], num_beams=3).text == likely


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_converted_weights_answer_as_those_quantized_while_loading(kind, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    source = Path(str(files("slowfast_mini") / "weights"))
    convert_checkpoint(str(source), tmp_path / "narrow", quantize=kind)
    sizes = [
        (folder / "model.safetensors").stat().st_size for folder in (source, tmp_path / "narrow")
    ]
    assert sizes[1] < 0.9 * sizes[0]
    now, later = load(device="cpu", quantize=kind), load(tmp_path / "narrow")
    assert (later.fingerprint, later._exact_fingerprint) == (
        now.fingerprint,
        now._exact_fingerprint,
    )
    seen = now.encode(CLIP)
    for question in QUESTIONS:
        assert later.ask(seen, question).text == now.ask(seen, question).text
    with pytest.raises(ModelError, match="quantized already"):
        load(tmp_path / "narrow", quantize=kind)
    config = AutoConfig.from_pretrained(tmp_path / "narrow")
    with pytest.raises(
        ModelError, match="made for CPUs; load the checkpoint that it was converted"
    ):
        loading_options(config, torch.device("cuda"), None, None)
    path = tmp_path / "narrow" / "config.json"
    path.write_text(path.read_text().replace('"bits": ', '"bits": 1'))
    with pytest.raises(ModelError, match="of another version; convert the checkpoint again"):
        load(tmp_path / "narrow")


def test_a_head_of_its_own_is_narrow_too(tmp_path) -> None:
    """As in the published checkpoints, whose embedding is not their head."""
    pytest.importorskip("onnxruntime")
    wide = AutoModelForImageTextToText.from_pretrained(GOLDEN).eval()
    options = {"quantization_config": CpuWeightsConfig(bits=8)}
    narrow = AutoModelForImageTextToText.from_pretrained(GOLDEN, **options).eval()
    narrow.save_pretrained(tmp_path)
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert isinstance(saved.lm_head, NarrowLinear)
    ids = torch.arange(10, 50)[None]
    with torch.inference_mode():
        expected = wide(input_ids=ids).logits
        for model in (narrow, saved):
            error = (model(input_ids=ids).logits - expected).norm() / expected.norm()
            assert error < 0.06


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells what is held on Linux")
def test_narrow_weights_are_held_once() -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    packed = quantized(torch.randn(4096, 4096), 8)
    wide = torch.nn.Linear(4096, 4096, bias=False, device="meta")

    def held() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    NarrowLinear(torch.nn.Linear(64, 64), 8).make_ready()
    before, layers = held(), torch.nn.ModuleList()
    for _ in range(4):
        layer = NarrowLinear(wide, 8)
        layer.weight, layer.scales = (part.clone() for part in packed)
        layers.append(layer)
    del layer
    make_ready(layers)
    assert held() - before < 1.5 * sum(layer.nbytes for layer in layers)


def test_what_an_int8_tower_saw_is_not_recalled_for_a_wide_one(
    plain: SlowFast, monkeypatch, tmp_path
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("slowfast_mllm.engine.loading._SMALL", 0)
    monkeypatch.setattr("slowfast_mllm.engine.loading.int8_is_fast", lambda: True)
    cache = MemoryCache(tmp_path)
    narrow = load(device="cpu", dtype="float32", quantize="int8", cache=cache)
    assert narrow.encode(CLIP).timing["encode"] > 0
    assert narrow.encode(CLIP).timing["encode"] == 0
    assert load(device="cpu", dtype="float32", cache=cache).encode(CLIP).timing["encode"] > 0
    file = tmp_path / "clip.sfmem"
    narrow.index(CLIP, file)
    assert plain.ask(file, QUESTIONS[0]).text == narrow.ask(file, QUESTIONS[0]).text


def test_what_narrow_weights_need_is_named(monkeypatch) -> None:
    monkeypatch.setattr("slowfast_mllm.engine.loading.narrow_linears_installed", lambda: False)
    with pytest.raises(ModelError, match=r"needs onnxruntime; `pip .*slowfast-mllm\[cpu\]"):
        load(device="cpu", quantize="int4")


def test_an_unknown_quantization_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="int8, int4, nf4"):
        load(device="cpu", quantize="int3")
