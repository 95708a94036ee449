"""The user's choice of attention holds in hybrid layers, and the model copies like any other."""

import copy
import pickle

import pytest
import torch
from tiny_models import assert_close, one_video_prompt, pad, tiny_model, video
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slowfast_mllm.model import SlowFastForConditionalGeneration


@torch.no_grad()
def logits(model: SlowFastForConditionalGeneration) -> Tensor:
    return model(**pad([one_video_prompt()]), pixel_values_videos=video()[None]).logits


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """(layer, name that the kernel sees in the config) of every call of a kernel named "spy"."""
    calls: list[tuple[int, str]] = []

    def spy(module, *args, **kwargs):
        calls.append((module.layer_idx, module.config._attn_implementation))
        return sdpa_attention_forward(module, *args, **kwargs)

    mask = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "spy", spy)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "spy", mask)
    return calls


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma3_text"])
def test_a_kernel_runs_in_every_layer_and_sees_its_own_name(family: str, seen) -> None:
    model = tiny_model(family)
    expected = logits(model)
    model.set_attn_implementation("spy")
    assert_close(logits(model), expected)
    assert seen == [(layer, "spy") for layer in range(4)]


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "gemma3_text"])
def test_eager_equals_sdpa(family: str) -> None:
    model = tiny_model(family)
    results = {}
    for name in ("sdpa", "eager"):
        model.set_attn_implementation(name)
        assert model.model.language_model.config._attn_implementation == name
        results[name] = logits(model)
    assert_close(results["eager"], results["sdpa"])


def test_eager_returns_the_attention_weights_of_every_layer() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    length = inputs["input_ids"].shape[1]
    assert [a.shape for a in outputs.attentions] == [(1, 4, length, length)] * 4
    assert len(outputs.hidden_states) == 5


def test_choosing_attention_at_load_time(tmp_path, seen) -> None:
    tiny_model().save_pretrained(tmp_path)
    load = SlowFastForConditionalGeneration.from_pretrained
    logits(load(tmp_path, attn_implementation="spy"))
    assert [name for _, name in seen] == ["spy"] * 4
    eager = load(tmp_path, attn_implementation="eager")
    assert eager.model.language_model.config._attn_implementation == "eager"


def test_deep_copies_are_independent() -> None:
    model = tiny_model()
    expected = logits(model)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), expected)
    twin.set_attn_implementation("eager")
    for layer in twin.model.language_model.layers:
        assert layer.self_attn.config.num_attention_heads == 4
    assert model.model.language_model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        twin.model.language_model.layers[0].self_attn.cross_attn.gate.scale.zero_()
    assert torch.equal(logits(model), expected)


def test_pickles_and_torch_save(tmp_path) -> None:
    model = tiny_model()
    expected = logits(model)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), expected)
    torch.save(model, tmp_path / "model.pt")
    assert torch.equal(logits(torch.load(tmp_path / "model.pt", weights_only=False)), expected)


def test_one_language_model_config_for_the_whole_model() -> None:
    model = tiny_model()
    model.config.text_config.attention_dropout = 0.25
    for layer in model.model.language_model.layers:
        assert layer.self_attn.config.attention_dropout == 0.25
