"""A wrong call gets a ValueError of one line that names the argument, before any long work."""

import pytest
import torch
from tiny_models import (
    IMAGE_SLOT,
    VIDEO_TOKEN,
    greedy,
    image,
    one_video_prompt,
    pad,
    slot,
    tiny_config,
    tiny_model,
    video,
)

from slowfast_mllm.model import SlowFastForConditionalGeneration


@pytest.fixture(scope="module")
def model() -> SlowFastForConditionalGeneration:
    return tiny_model()


def refused(model: SlowFastForConditionalGeneration, *words: str, **inputs: object) -> None:
    """`forward` and `generate` both say no, in one line with these words."""
    for call in (model.__call__, lambda **kwargs: greedy(model, **kwargs)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            call(**inputs)
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in words), message


def test_too_many_placeholders(model) -> None:
    prompt = pad([[*one_video_prompt(6), VIDEO_TOKEN]])
    refused(model, "Row 0", "more video placeholders", **prompt, pixel_values_videos=video()[None])


def test_too_few_placeholders(model) -> None:
    prompt = pad([[1, *slot(6)[1:], 2]])
    refused(model, "Row 0", "1 fewer video", **prompt, pixel_values_videos=video()[None])


def test_more_videos_than_placeholders(model) -> None:
    refused(model, "video", **pad([one_video_prompt(6)]), pixel_values_videos=[video(), video()])


def test_a_mask_of_other_frames(model) -> None:
    inputs = {**pad([one_video_prompt(6)]), "pixel_values_videos": video()[None]}
    mask = torch.ones(1, 3, dtype=torch.long)
    refused(model, "video_frame_mask: 3 given for 6 frames", **inputs, video_frame_mask=mask)


def test_a_video_without_any_placeholder(model) -> None:
    refused(model, "video", **pad([[5, 6, 7]]), pixel_values_videos=video()[None])


def test_placeholders_of_the_other_kind(model) -> None:
    refused(model, "image", **pad([[1, *IMAGE_SLOT]]), pixel_values_videos=video()[None])


def test_placeholders_but_no_pixels(model) -> None:
    refused(model, "pixel_values_videos", "video_memory", **pad([one_video_prompt()]))


def test_pixels_and_memory(model) -> None:
    both = {"pixel_values_videos": video()[None], "video_memory": model.encode_video(video())}
    refused(model, "pixel_values_videos", "video_memory", **pad([one_video_prompt()]), **both)


@pytest.mark.parametrize(
    "frames",
    [video()[0], video()[:0], video()[:, :2], video().permute(0, 2, 3, 1)],
    ids=["one frame", "no frame", "two channels", "channels last"],
)
def test_a_video_of_the_wrong_shape(model, frames: torch.Tensor) -> None:
    wanted = ("pixel_values_videos", "(T, 3, H, W)", str(tuple(frames.shape)))
    refused(model, *wanted, **pad([one_video_prompt()]), pixel_values_videos=[frames])
    with pytest.raises(ValueError, match="pixel_values_videos"):
        model.encode_video(frames)


def test_one_unbatched_video_is_told_from_a_batch(model) -> None:
    refused(model, "pixel_values_videos", **pad([one_video_prompt()]), pixel_values_videos=video())


@pytest.mark.parametrize(
    "picture",
    [image()[0], image()[:2], image().permute(1, 2, 0)],
    ids=["grey", "two channels", "channels last"],
)
def test_an_image_of_the_wrong_shape(model, picture: torch.Tensor) -> None:
    wanted = ("pixel_values", "(3, H, W)", str(tuple(picture.shape)))
    refused(model, *wanted, **pad([[1, *IMAGE_SLOT]]), pixel_values=[picture])


def test_timestamps_of_another_number(model) -> None:
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    refused(model, "video_timestamps", "6", "5", **inputs, video_timestamps=torch.arange(5)[None])
    refused(model, "video_timestamps", **inputs, video_timestamps=[torch.arange(6)] * 2)


def test_ids_or_embeddings(model) -> None:
    ids = torch.tensor([[5, 6]])
    for inputs in ({}, {"input_ids": ids, "inputs_embeds": model.get_input_embeddings()(ids)}):
        with pytest.raises(ValueError, match=r"input_ids.*inputs_embeds"):
            model(**inputs)


def test_videos_in_generate_need_ids(model) -> None:
    embeds = model.get_input_embeddings()(torch.tensor([[5, 6]]))
    with pytest.raises(ValueError, match="input_ids"):
        model.generate(inputs_embeds=embeds, video_memory=model.encode_video(video()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hybrid_layers": [0, 4]}, r"hybrid_layers \[4\].*0\.\.3"),
        ({"hybrid_layers": [-1]}, "hybrid_layers"),
        ({"fast_temporal_pool": 0}, "fast_temporal_pool"),
        ({"vision_chunk_frames": 0}, "vision_chunk_frames"),
        ({"motion_features": True}, "num_channels=5"),
        ({"vision": {"model_type": "convnext"}}, "'convnext' has no hidden_size"),
    ],
)
def test_configurations_that_cannot_be(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_config(**fields)


def test_a_tower_that_merges_patches_is_refused() -> None:
    swin = {
        "model_type": "swin",
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 8,
        "window_size": 4,
    }
    model = tiny_model(vision={**swin, "depths": [1, 1], "num_heads": [1, 1]})
    with pytest.raises(ValueError, match="'swin' makes fewer tokens than patches"):
        model.encode_video(torch.zeros(2, 3, 32, 32))


def test_no_hybrid_layers_is_fast_tokens_alone() -> None:
    model = tiny_model(hybrid_layers=[])
    videos = {"pixel_values_videos": video()[None]}
    assert greedy(model, **pad([one_video_prompt()]), **videos).shape == (1, 8)
