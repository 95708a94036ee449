"""Weights in bfloat16 that are computed with in float32: the same numbers, half of the memory."""

import copy

import pytest
import torch
from tiny_models import assert_close, greedy, one_video_prompt, pad, tiny_model, video

from slowfast_mllm import load
from slowfast_mllm.engine import loading
from slowfast_mllm.model import wide_compute

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
    wide = copy.deepcopy(narrow)
    wide_compute.compute_in_float32(wide)
    expected = copy.deepcopy(narrow).float()
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        assert_close(wide(**inputs).logits, expected(**inputs).logits)
    assert_close(wide(**inputs).logits, expected(**inputs).logits)  # with gradients
    assert torch.equal(greedy(wide, **inputs), greedy(expected, **inputs))
    layers = wide.model.language_model.layers
    assert {p.dtype for n, p in layers.named_parameters() if "proj.weight" in n} == {torch.bfloat16}


def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch) -> None:
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda device: False)
    slow = load(device="cpu", dtype="bfloat16")
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda device: True)
    usual = load(device="cpu", dtype="bfloat16")
    assert usual.model.dtype == torch.bfloat16
    layer = slow.model.model.language_model.layers[0]
    assert layer.mlp.up_proj.weight.dtype == torch.bfloat16
    assert layer.mlp.up_proj(torch.zeros(3, 256)).dtype == torch.float32
    frames = torch.zeros(4, 96, 96, 3, dtype=torch.uint8).numpy()
    question = "How does the camera move?"
    assert slow.ask(frames, question).text == load(device="cpu").ask(frames, question).text
    assert slow.fingerprint == usual.fingerprint
