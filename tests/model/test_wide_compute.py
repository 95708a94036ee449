"""Weights in bfloat16 that are computed with in float32: like float32, in half the memory."""

import copy

import pytest
import torch
from tiny_models import assert_close, one_video_prompt, pad, tiny_model, video

from slowfast_mllm import load
from slowfast_mllm.engine import loading
from slowfast_mllm.model import hardware, wide_compute
from slowfast_mllm.model.wide_compute import compute_in_float32

CLIP = torch.zeros(4, 96, 96, 3, dtype=torch.uint8).numpy()
QUESTION = "How does the camera move?"
CASES = {
    "qwen2": {},  # biases
    "tied": {"text": {"tie_word_embeddings": True}, "tie_word_embeddings": True},
    "gemma3_text": {"family": "gemma3_text"},  # an embedding of its own kind
    "siglip": {
        "vision": {
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at_once", [100, 2**20])
def test_as_if_the_weights_were_float32(case: str, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(wide_compute, "_AT_ONCE", at_once)
    narrow = tiny_model(**CASES[case]).to(torch.bfloat16)
    wide, expected = copy.deepcopy(narrow), copy.deepcopy(narrow).float()
    compute_in_float32(wide)
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        assert_close(wide(**inputs).logits, expected(**inputs).logits)
    assert_close(wide(**inputs).logits, expected(**inputs).logits)  # with gradients
    layers = wide.model.language_model.layers
    assert {p.dtype for n, p in layers.named_parameters() if "proj.weight" in n} == {torch.bfloat16}


def test_a_layer_takes_what_a_linear_layer_takes() -> None:
    plain = torch.nn.Linear(30, 50).to(torch.bfloat16)
    wide, expected = copy.deepcopy(plain), copy.deepcopy(plain).float()
    compute_in_float32(wide)
    for shape in ((30,), (1, 30), (2, 1, 30), (2, 3, 30)):
        given = torch.randn(shape)
        with torch.no_grad():
            found = wide(given)
            assert found.dtype == wide(given.bfloat16()).dtype == torch.float32
        # One row is rounded to bfloat16, more are not.
        tolerance = 0.03 if given.numel() == 30 else 1e-6
        torch.testing.assert_close(found, expected(given), atol=tolerance, rtol=tolerance)


def test_experts_stay_as_they_are() -> None:
    experts = torch.nn.ParameterDict({"experts": torch.nn.Parameter(torch.ones(9, 30, 50))})
    model = torch.nn.ModuleList([experts, torch.nn.Linear(30, 50)]).to(torch.bfloat16)
    compute_in_float32(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert type(model[1]) is torch.nn.Linear


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch, quantize) -> None:
    if quantize is not None:
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda device: False)
    slow = load(device="cpu", dtype="bfloat16", quantize=quantize)
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda device: True)
    usual = load(device="cpu", dtype="bfloat16")
    assert usual.model.dtype == torch.bfloat16
    projector = slow.model.model.multi_modal_projector[0]
    assert projector.weight.dtype == torch.bfloat16
    assert projector(torch.zeros(3, projector.in_features)).dtype == torch.float32
    assert slow.ask(CLIP, QUESTION).text == load(device="cpu").ask(CLIP, QUESTION).text
    if quantize is None:
        assert slow.fingerprint == usual.fingerprint


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_cpu_says_what_it_computes_in(monkeypatch, name: str) -> None:
    for has in (True, False):
        told = {"avx2": True, name: has}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told)
        assert hardware.bfloat16_is_fast("cpu") is has
