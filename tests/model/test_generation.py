"""All roads of `generate` lead to the same tokens: caches, beams, chunks, compiled steps."""

from functools import wraps

import pytest
import torch
import torch.nn.functional as F
from tiny_models import (
    PAD,
    VIDEO_TOKEN,
    VOCAB,
    assert_close,
    greedy,
    one_video_prompt,
    pad,
    slot,
    tiny_model,
    video,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from slowfast_mllm.model import SlowFastForConditionalGeneration, slow_attention
from slowfast_mllm.model.slow_attention import _attend_in_steps

PROMPTS = [one_video_prompt(6), [5, *slot(3), 6, *slot(9), 7, 8, 9], [11, 12, 13]]
VIDEOS = [video(6, seed=1), video(3, seed=2), video(9, seed=3)]


@pytest.fixture(scope="module")
def model() -> SlowFastForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def batch() -> dict[str, object]:
    return {**pad(PROMPTS), "pixel_values_videos": VIDEOS}


@pytest.fixture(scope="module")
def answers(model, batch) -> Tensor:
    return greedy(model, **batch)


def test_the_slow_tokens_of_the_test_model_decide_answers(model, batch, answers) -> None:
    memories = [model.encode_video(v) for v in VIDEOS]
    silent = [
        type(m)(
            m.fast_tokens,
            m.slow_keys,
            {i: 0 * v for i, v in m.slow_values.items()},
            m.timestamps,
        )
        for m in memories
    ]
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(greedy(model, **text, video_memory=memories), answers)
    assert not torch.equal(greedy(model, **text, video_memory=silent), answers)


def test_the_processors_token_types_are_obeyed(model, batch, answers, monkeypatch) -> None:
    types = model.model.token_types(batch["input_ids"])
    monkeypatch.setattr(model.config, "video_token_id", VOCAB + 7)  # nobody told the config
    for options in ({}, {"use_cache": False}, {"cache_implementation": "static"}):
        given = greedy(model, **batch, mm_token_type_ids=types, **options)
        assert torch.equal(given, answers)


def test_text_alone_may_come_as_embeddings(model) -> None:
    ids = torch.tensor([[5, 6, 7]])
    embeds = model.get_input_embeddings()(ids)
    mask = torch.ones_like(ids)
    options = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 8, "pad_token_id": PAD}
    given = model.generate(inputs_embeds=embeds, **options)
    assert torch.equal(given, greedy(model, input_ids=ids, attention_mask=mask))


def test_without_cache(model, batch, answers) -> None:
    assert torch.equal(greedy(model, **batch, use_cache=False), answers)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])  # the older one still has users
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")
@torch.no_grad()
def test_cached_steps_give_the_logits_of_the_whole_sequence(model, name: str) -> None:
    ids = torch.tensor([[*one_video_prompt(6), 40, 41, 42, 43]])
    types = model.model.token_types(ids)
    memory = model.model.remember_all(types, video_memory=model.encode_video(video()))
    whole = model(input_ids=ids, video_memory=memory).logits
    cache = DynamicCache(config=model.config)
    split = ids.shape[1] - 4
    steps = [model(input_ids=ids[:, :split], video_memory=memory, **{name: cache}).logits]
    memory = memory.without_fast_tokens()
    for i in range(split, ids.shape[1]):
        step = model(input_ids=ids[:, i : i + 1], video_memory=memory, **{name: cache})
        steps.append(step.logits)
    assert_close(torch.cat(steps, 1), whole)


@pytest.mark.parametrize("masked", [False, True])
def test_a_step_on_cpus_attends_as_the_fused_kernel(masked: bool) -> None:
    queries, keys, values = (torch.randn(2, 2, n, 8) for n in (7, 30, 30))
    mask = (torch.arange(30) < torch.tensor([[12], [30]]))[:, None, None] if masked else None
    expected = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=0.3)
    assert_close(_attend_in_steps(queries, keys, values, attn_mask=mask, scale=0.3), expected)


@pytest.mark.parametrize("block", [7, 30, 4096])
def test_blocks_on_cpus_attend_as_the_fused_kernel(block: int, monkeypatch) -> None:
    monkeypatch.setattr(slow_attention, "_BLOCK", block)
    queries, keys, values = (torch.randn(2, 2, n, 8) for n in (9, 30, 30))
    queries[:, :, 0] *= 100  # all weight on one key
    expected = F.scaled_dot_product_attention(queries, keys, values, scale=0.3)
    attend = slow_attention._attend_in_blocks
    assert_close(attend(queries, keys, values, None, 0.3), expected)
    half = attend(*(x.bfloat16() for x in (queries[:, :, 1:], keys, values)), None, 0.3)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected[:, :, 1:]).abs().max() < 0.05


@torch.no_grad()
def test_steps_in_bfloat16_say_what_the_whole_sequence_says(batch) -> None:
    whole, half = tiny_model(), tiny_model().to(torch.bfloat16)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": PAD, "output_logits": True}
    options["return_dict_in_generate"] = True
    one = whole.generate(**batch, **options)
    other = half.generate(**batch, **options)
    # The first step after the prompt: the same sequence so far in both, or they could not agree.
    same = one.sequences[:, -4] == other.sequences[:, -4]
    assert same.any()
    difference = (one.logits[1] - other.logits[1])[same].abs().mean()
    assert difference < 0.05 * one.logits[1][same].abs().mean()


def test_static_cache(model, batch, answers) -> None:
    assert torch.equal(greedy(model, **batch, cache_implementation="static"), answers)


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_chunked_prefill(model, chunk: int) -> None:
    """Chunk borders fall inside the fast tokens and beside them."""
    for row, videos in zip(PROMPTS[:2], (VIDEOS[:1], VIDEOS[1:]), strict=True):
        inputs = {"input_ids": torch.tensor([row]), "pixel_values_videos": videos}
        expected = greedy(model, **inputs)
        assert torch.equal(greedy(model, **inputs, prefill_chunk_size=chunk), expected)


def test_chunked_prefill_of_padded_rows(model, batch, answers) -> None:
    assert torch.equal(greedy(model, **batch, prefill_chunk_size=4), answers)


def test_prompt_lookup_decoding(model) -> None:
    row = [3, *slot(6), *(7, 8, 9, 10, 7, 8, 9, 10, 7, 8)]
    inputs = {"input_ids": torch.tensor([row]), "pixel_values_videos": video()[None]}
    expected = greedy(model, 16, **inputs)
    assert torch.equal(greedy(model, 16, **inputs, prompt_lookup_num_tokens=3), expected)


def test_beams_of_a_batch_equal_beams_of_each_row(model, batch) -> None:
    together = greedy(model, **batch, num_beams=3)
    videos = [VIDEOS[:1], VIDEOS[1:], None]
    for row, own, beams in zip(PROMPTS, videos, together, strict=True):
        inputs = {"input_ids": torch.tensor([row]), "pixel_values_videos": own}
        assert torch.equal(greedy(model, **inputs, num_beams=3)[0], beams)


def test_the_best_beams_are_returned_in_order(model, batch) -> None:
    best = greedy(model, **batch, num_beams=3)
    three = greedy(model, **batch, num_beams=3, num_return_sequences=3)
    assert torch.equal(three[::3], best)


def test_several_sampled_answers(model, batch) -> None:
    """Sampling among one candidate is greedy, whichever row it is repeated for."""
    options = {"do_sample": True, "top_k": 1, "num_return_sequences": 2, "max_new_tokens": 8}
    sampled = model.generate(**batch, **options, pad_token_id=PAD)[:, -8:]
    assert torch.equal(sampled, greedy(model, **batch).repeat_interleave(2, dim=0))


def test_eager_equals_sdpa(model, batch, answers) -> None:
    eager = tiny_model()
    eager.set_attn_implementation("eager")
    assert torch.equal(greedy(eager, **batch), answers)
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        assert_close(eager(**batch).logits[mask], model(**batch).logits[mask])


def test_a_switch_keeps_generated_tokens_from_attending(model, batch, answers) -> None:
    """As the official `generate()`: the first answer token is the same, later ones may differ."""
    official = tiny_model(slow_attention_for_generated_tokens=False)
    other = greedy(official, **batch)
    assert torch.equal(other[:, 0], answers[:, 0])
    assert not torch.equal(other, answers)
    with pytest.raises(ValueError, match="use_cache=True"):
        greedy(official, **batch, use_cache=False)


@pytest.mark.parametrize("attend", [True, False])
def test_a_placeholder_that_the_model_says_stands_for_no_video(attend: bool) -> None:
    said = VOCAB - 1
    model = tiny_model(slow_attention_for_generated_tokens=attend, video_token_id=said)
    prompt = torch.tensor([[said if t == VIDEO_TOKEN else t for t in one_video_prompt(6)]])
    others = [token for token in range(VOCAB) if token != said]
    new = greedy(model, input_ids=prompt, pixel_values_videos=[video(6)], suppress_tokens=others)
    assert new.shape[1] > 1
    assert (new == said).all()


def test_a_compiled_decode_step_is_one_graph_and_gives_the_same_logits() -> None:
    model = tiny_model(text={"num_hidden_layers": 2}, hybrid_layers=[1])
    ids = torch.tensor([[*one_video_prompt(6), 40, 41, 42]])
    split = ids.shape[1] - 3
    memory = model.encode_video(video())

    @torch.no_grad()
    def run(step) -> Tensor:
        cache = StaticCache(config=model.config, max_cache_len=64)
        packed = model.model.remember_all(model.model.token_types(ids), video_memory=memory)
        model(input_ids=ids[:, :split], video_memory=packed, cache=cache)
        packed = packed.without_fast_tokens()
        steps = []
        for i in range(split, ids.shape[1]):
            inputs = {"input_ids": ids[:, i : i + 1], "cache": cache}
            steps.append(step(**inputs, video_memory=packed).logits.clone())
        return torch.cat(steps, 1)

    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    assert_close(run(compiled), run(model))


@pytest.mark.parametrize("parts", ["all", "tower"])
def test_parts_may_lie_on_the_disk(parts: str, model, tmp_path) -> None:
    inputs = {**pad([one_video_prompt(6)]), "pixel_values_videos": video(6)[None]}
    expected = greedy(model, **inputs)
    model.save_pretrained(tmp_path)
    place = {f"model.{name}": "cpu" for name, _ in model.model.named_children()}
    place |= {"lm_head": "cpu", "model.vision_tower": "disk"}
    offloaded = SlowFastForConditionalGeneration.from_pretrained(
        tmp_path,
        device_map=place if parts == "tower" else {"": "disk"},
        offload_folder=tmp_path / "offloaded",
    )
    assert torch.equal(greedy(offloaded, **inputs), expected)


def draft(kind: str) -> torch.nn.Module:
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    if kind == "text":
        torch.manual_seed(0)
        text = tiny_model(text=small, hybrid_layers=[0]).config.text_config
        return AutoModelForCausalLM.from_config(text).eval()
    return tiny_model(text=small, hybrid_layers=[0])


@pytest.mark.parametrize("kind", ["text", "slow-fast"])
@pytest.mark.parametrize("prompt", [PROMPTS[1], PROMPTS[2]])
def test_a_draft_of_another_size_changes_no_answer(model, kind, prompt) -> None:
    inputs = pad([prompt])
    if VIDEO_TOKEN in prompt:
        inputs["pixel_values_videos"] = VIDEOS[1:]
    expected = greedy(model, **inputs)
    assert torch.equal(greedy(model, **inputs, assistant_model=draft(kind)), expected)


def test_a_slow_fast_draft_sees_the_video_itself(model, monkeypatch) -> None:
    inputs = {**pad([PROMPTS[1]]), "pixel_values_videos": VIDEOS[1:]}
    expected = greedy(model, **inputs)
    steps = []
    forward = SlowFastForConditionalGeneration.forward

    @wraps(forward)
    def counted(self, *args, **kwargs):
        steps.append(self)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(SlowFastForConditionalGeneration, "forward", counted)
    twin = tiny_model()  # whoever sees the same drafts the same
    twin.generation_config.update(num_assistant_tokens=20, assistant_confidence_threshold=0.0)
    assert torch.equal(greedy(model, **inputs, assistant_model=twin), expected)
    assert sum(self is model for self in steps) <= 2
    memory = model.encode_video(VIDEOS[1])
    memories = [memory, model.encode_video(VIDEOS[2])]
    with pytest.raises(ValueError, match="give generate\\(\\) pixel_values_videos instead"):
        greedy(model, **pad([PROMPTS[1]]), video_memory=memories, assistant_model=twin)
    words = draft("text")
    actual = greedy(model, **pad([PROMPTS[1]]), video_memory=memories, assistant_model=words)
    assert torch.equal(actual, expected)
