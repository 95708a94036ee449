"""What stands beside a row in a batch never changes it: padding, videos, images, plain text."""

import pytest
import torch
from tiny_models import (
    IMAGE_SLOT,
    VIDEO_TOKEN,
    VOCAB,
    assert_close,
    greedy,
    image,
    one_video_prompt,
    pad,
    slot,
    tiny_model,
    video,
)

from slowfast_mllm.model import SlowFastForConditionalGeneration


@pytest.fixture(scope="module", params=["text", "text_after_video", "all"])
def model(request: pytest.FixtureRequest) -> SlowFastForConditionalGeneration:
    """A model of each kind of cross-attending tokens."""
    return tiny_model(cross_attending_tokens=request.param)


RAGGED = [
    (one_video_prompt(6), [video(6, seed=1)]),
    ([11, 12, 13, 14, 15], []),
    ([5, *slot(3), 6, *slot(9), 7, 8, 9, 10], [video(3, seed=2), video(9, seed=3)]),
    (one_video_prompt(1, question=(20,)), [video(1, seed=4)]),
]


@torch.no_grad()
def alone(model: SlowFastForConditionalGeneration, row: list[int], videos: list) -> torch.Tensor:
    return model(input_ids=torch.tensor([row]), pixel_values_videos=videos or None).logits[0]


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_ragged_rows_equal_each_alone(model, side: str) -> None:
    inputs = pad([row for row, _ in RAGGED], side)
    videos = [v for _, videos in RAGGED for v in videos]
    logits = model(**inputs, pixel_values_videos=videos).logits
    for got, mask, (row, own) in zip(logits, inputs["attention_mask"], RAGGED, strict=True):
        assert_close(got[mask.bool()], alone(model, row, own))


def test_ragged_answers_equal_each_alone(model) -> None:
    inputs = pad([row for row, _ in RAGGED])
    videos = [v for _, videos in RAGGED for v in videos]
    together = greedy(model, **inputs, pixel_values_videos=videos)
    for answer, (row, own) in zip(together, RAGGED, strict=True):
        single = greedy(model, input_ids=torch.tensor([row]), pixel_values_videos=own or None)
        assert torch.equal(answer, single[0])


def test_the_other_video_of_a_row_matters(model) -> None:
    row, (first, second) = RAGGED[2]
    changed = alone(model, row, [first, second + 1])
    assert (alone(model, row, [first, second]) - changed)[-1].abs().max() > 1e-3


def test_videos_and_images_interleaved_go_to_their_own_placeholders(model) -> None:
    """Memories in the order of the prompt are the reference; pixels come kind by kind."""
    row = [3, *IMAGE_SLOT, 4, *slot(6), 5, *IMAGE_SLOT, 6, *slot(3), 7, 8]
    pixels = {
        "pixel_values": torch.stack([image(1), image(2)]),
        "pixel_values_videos": [video(6, seed=1), video(3, seed=2)],
    }
    inputs = {"input_ids": torch.tensor([row])}
    with torch.no_grad():
        memories = [
            model.encode_image(image(1)),
            model.encode_video(video(6, seed=1)),
            model.encode_image(image(2)),
            model.encode_video(video(3, seed=2)),
        ]
        expected = model(**inputs, video_memory=memories).logits
        assert torch.equal(model(**inputs, **pixels).logits, expected)
        swapped = pixels | {"pixel_values": pixels["pixel_values"].flip(0)}
        assert (model(**inputs, **swapped).logits - expected).abs().max() > 1e-2


def test_fast_tokens_stand_at_their_placeholders(model) -> None:
    row = [3, *IMAGE_SLOT, 4, *slot(6), 5]
    memories = [model.encode_image(image(1)), model.encode_video(video(6))]
    seen = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([row]), video_memory=memories)
    hook.remove()
    assert torch.equal(seen[0][0, 1:17], memories[0].fast_tokens)
    assert torch.equal(seen[0][0, 18:-1], memories[1].fast_tokens)
    assert torch.equal(seen[0][0, -1], model.get_input_embeddings().weight[5])


@torch.no_grad()
def test_embeddings_in_place_of_ids(model) -> None:
    """Their types say where the fast tokens go, whatever stands there."""
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    expected = model(**inputs).logits
    ids = inputs.pop("input_ids")
    types = model.model.token_types(ids)
    embeds = model.get_input_embeddings()(ids.clamp(max=VOCAB - 1))
    given = model(**inputs, inputs_embeds=embeds, mm_token_type_ids=types).logits
    assert torch.equal(given, expected)


def test_which_positions_attend_the_slow_tokens() -> None:
    """Changing slow values alone shows who reads them."""
    row = torch.tensor([[3, 4, *slot(6), 5]])
    readers = {"text": [0, 1, -1], "text_after_video": [-1], "all": list(range(15))}
    for kind, expected in readers.items():
        model = tiny_model(cross_attending_tokens=kind, hybrid_layers=[3])
        memory = model.encode_video(video(6))
        silent = {i: v * 0 for i, v in memory.slow_values.items()}
        mute = type(memory)(memory.fast_tokens, memory.slow_keys, silent, memory.timestamps)
        with torch.no_grad():
            full, none = (model(input_ids=row, video_memory=m).logits[0] for m in (memory, mute))
        changed = (full - none).abs().amax(-1) > 1e-4
        assert changed.nonzero().flatten().tolist() == sorted(i % 15 for i in expected), kind


def test_a_batch_of_text_needs_no_video(model) -> None:
    inputs = pad([[5, 6, 7], [8, 9, 10, 11, 12]])
    assert greedy(model, **inputs).shape == (2, 8)


def test_placeholder_ids_may_be_inside_the_table_too(model) -> None:
    with torch.no_grad():
        expected = model(**pad([one_video_prompt()]), pixel_values_videos=video()[None]).logits
        inside = tiny_model(
            cross_attending_tokens=model.config.cross_attending_tokens, video_token_id=VOCAB - 1
        )
        ids = pad([one_video_prompt()])["input_ids"]
        ids[ids == VIDEO_TOKEN] = VOCAB - 1
        logits = inside(input_ids=ids, pixel_values_videos=video()[None]).logits
        assert torch.equal(logits, expected)
