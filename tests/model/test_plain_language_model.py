"""Any decoder language model becomes Slow-Fast by configuration; with closed gates it is itself."""

import pytest
import torch
from tiny_models import (
    VOCAB,
    assert_close,
    greedy,
    one_video_prompt,
    pad,
    tiny_config,
    tiny_model,
    video,
)
from transformers import AutoModelForCausalLM, PreTrainedModel

from slowfast_mllm.model import SlowFastForConditionalGeneration

FAMILIES = ["qwen2", "qwen3", "llama", "mistral", "smollm3", "phi3", "olmo2", "gemma3_text"]
# Families whose head does more than a matrix product.
SCALED_LOGITS = {
    "gemma2": {"final_logit_softcapping": 0.5},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
}
MIXTURES = ["qwen3_moe"]


def close_gates(model: SlowFastForConditionalGeneration) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("gate.scale"):
                weight.zero_()


def plain_language_model(model: SlowFastForConditionalGeneration) -> PreTrainedModel:
    """The family's own model with the same weights."""
    plain = AutoModelForCausalLM.from_config(model.config.text_config).eval()
    weights = model.model.language_model.state_dict()
    plain.model.load_state_dict({n: w for n, w in weights.items() if "cross_attn" not in n})
    plain.lm_head.weight = model.lm_head.weight
    return plain


@pytest.mark.parametrize("family", [*FAMILIES, *SCALED_LOGITS, *MIXTURES])
@torch.no_grad()
def test_closed_gates_give_the_plain_language_model(family: str) -> None:
    model = tiny_model(family, text=SCALED_LOGITS.get(family))
    close_gates(model)
    plain = plain_language_model(model)

    text = torch.arange(2, 22)[None]
    assert_close(model(input_ids=text).logits, plain(input_ids=text).logits, atol=1e-5)

    memory, inputs = model.encode_video(video()), pad([one_video_prompt()])
    is_fast = inputs["input_ids"][0] >= VOCAB
    embeds = plain.get_input_embeddings()(inputs["input_ids"].clamp(max=VOCAB - 1))
    embeds[0, is_fast] = memory.fast_tokens
    logits = model(**inputs, video_memory=memory).logits
    assert_close(logits, plain(inputs_embeds=embeds).logits, atol=1e-5)


@pytest.mark.parametrize("family", [*FAMILIES, *SCALED_LOGITS, *MIXTURES])
@torch.no_grad()
def test_open_gates_matter_and_caching_does_not(family: str) -> None:
    model = tiny_model(family, text=SCALED_LOGITS.get(family))
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    cached, uncached = greedy(model, **inputs), greedy(model, **inputs, use_cache=False)
    assert torch.equal(cached, uncached)
    with_slow_tokens = model(**inputs).logits
    close_gates(model)
    assert (with_slow_tokens - model(**inputs).logits).abs().max() > 1e-2


def test_a_new_model_starts_as_the_plain_language_model() -> None:
    model = SlowFastForConditionalGeneration(tiny_config()).eval()
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        before = model(**inputs).logits
        for layer in (0, 2):
            cross = model.model.language_model.layers[layer].self_attn.cross_attn
            assert cross.gate.scale.item() == 0
            cross.v_proj.weight.normal_()
        assert torch.equal(model(**inputs).logits, before)


def test_a_checkpoint_without_gates_loads_as_the_plain_language_model() -> None:
    """As when the weights come from a language model that never saw a video."""
    model = tiny_model()
    weights = {n: w for n, w in model.state_dict().items() if "cross_attn" not in n}
    load = SlowFastForConditionalGeneration.from_pretrained
    for _ in range(3):  # memory that nobody initialised may be zero by chance
        loaded = load(None, config=model.config, state_dict=weights)
        for layer in (0, 2):
            cross = loaded.model.language_model.layers[layer].self_attn.cross_attn
            assert cross.gate.scale.item() == 0
            assert 0 < cross.k_proj.weight.std() < 0.1


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2"])
def test_a_language_model_of_another_shape_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match=f"text_config.*{family}"):
        SlowFastForConditionalGeneration(tiny_config(family, text={"head_dim": None}))


@pytest.mark.parametrize("family", ["stablelm", "nemotron"])
def test_a_language_model_that_loses_the_slow_tokens_on_the_way_is_refused(family: str) -> None:
    """Its layers hand no keyword arguments down: it would answer without having looked."""
    model = tiny_model(family)
    with pytest.raises(ValueError, match=f"text_config.*{family}.*slow_memory"):
        model(**pad([one_video_prompt()]), pixel_values_videos=video()[None])
