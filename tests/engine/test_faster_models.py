"""Compiled decode steps and quantized weights: the same questions, (nearly) the same words."""

import shutil
from pathlib import Path

import pytest
import torch

from slowfast_mllm import ModelError, SlowFast, load

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


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantized_weights_answer_alike_and_take_less(plain: SlowFast, kind) -> None:
    pytest.importorskip("bitsandbytes")
    quantized = load(device="cpu", quantize=kind)

    def size(model: SlowFast) -> int:
        return sum(p.nbytes for p in model.model.model.language_model.layers.parameters())

    limit = {"int8": 0.32, "nf4": 0.22}[kind]
    assert size(quantized) < limit * size(plain)
    same = [quantized.ask(CLIP, q).text == plain.ask(CLIP, q).text for q in QUESTIONS]
    assert sum(same) >= 2
    assert quantized.model.model.vision_tower.dtype == torch.float32


def test_an_unknown_quantization_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="int8, nf4"):
        load(device="cpu", quantize="int3")
