"""As many placeholders as the model makes fast tokens, for any size, length and pooling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processor_parts import PATCH, tiny_config, tiny_model, tiny_processor, tiny_tokenizer

from slowfast_mllm.model.visual_tokens import fast_frames, pool_space
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.processing.placeholders import TokenLayout

layouts = st.builds(
    TokenLayout,
    patch_size=st.sampled_from([8, 14, 16, 32]),
    slow_spatial_pool=st.integers(1, 4),
    fast_frame_stride=st.integers(1, 5),
    fast_temporal_pool=st.integers(1, 8),
    fast_spatial_pool=st.integers(1, 3),
    min_fast_frames=st.integers(1, 20),
)


def model_tokens(maps: torch.Tensor, layout: TokenLayout, is_image: bool) -> int:
    """Fast tokens that the model's functions make of (T, h, w, D) maps."""
    slow = maps if is_image else pool_space(maps, layout.slow_spatial_pool)
    steps = fast_frames(
        slow, layout.fast_frame_stride, layout.fast_temporal_pool, layout.min_fast_frames
    )
    return pool_space(steps, layout.fast_spatial_pool)[..., 0].numel()


@settings(max_examples=150, deadline=None)
@given(layout=layouts, num_frames=st.integers(1, 150), size=st.tuples(*[st.integers(12, 20)] * 2))
def test_videos(layout: TokenLayout, num_frames: int, size: tuple[int, int]) -> None:
    pixels = [cells * layout.patch_size + layout.patch_size // 2 for cells in size]
    expected = model_tokens(torch.zeros(num_frames, *size, 1), layout, is_image=False)
    assert layout.video_tokens(num_frames, *pixels) == expected
    assert layout.video_text("x", None, num_frames, *pixels) == "x" * expected
    timed = layout.video_text("x", torch.arange(num_frames), num_frames, *pixels)
    assert timed.count("x") == expected


@settings(max_examples=50, deadline=None)
@given(layout=layouts, size=st.tuples(*[st.integers(3, 40)] * 2))
def test_images(layout: TokenLayout, size: tuple[int, int]) -> None:
    pixels = [cells * layout.patch_size for cells in size]
    expected = model_tokens(torch.zeros(1, *size, 1), layout, is_image=True)
    assert layout.image_tokens(*pixels) == expected


@settings(max_examples=50, deadline=None)
@given(layout=layouts, num_frames=st.integers(1, 150))
def test_written_times_rise_and_stay_within_the_clip(layout: TokenLayout, num_frames: int) -> None:
    size = layout.patch_size * layout.slow_spatial_pool * layout.fast_spatial_pool
    text = layout.video_text("", torch.arange(num_frames), num_frames, size, size)
    times = [float(part.strip("[]s")) for part in text.split("][")]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= num_frames - 1


@pytest.mark.parametrize(
    ("num_frames", "fields"),
    [
        (1, {}),
        (5, {"fast_temporal_pool": 4}),
        (9, {"fast_frame_stride": 2}),
        (7, {"fast_spatial_pool": 2, "slow_spatial_pool": 1}),
        (6, {"slow_spatial_pool": 3}),
    ],
)
def test_the_model_takes_the_prompt(num_frames: int, fields: dict) -> None:
    model = tiny_model(**fields)
    processor = SlowFastProcessor.from_config(tiny_config(**fields), tiny_tokenizer())
    inputs = processor(
        text="<video> and <image>",
        videos=np.zeros((num_frames, 20, 30, 3), np.uint8),
        images=np.zeros((20, 30, 3), np.uint8),
        do_sample_frames=False,
        return_tensors="pt",
    )
    with torch.no_grad():  # it checks the counts itself
        model(**inputs)


def test_servers_can_ask_for_counts_beforehand() -> None:
    processor = tiny_processor()
    counts = processor._get_num_multimodal_tokens(
        image_sizes=[(100, 50), (7, 9)], video_sizes=[(5, 64, 48)]
    )
    inputs = processor(
        text="<image><image><video>",
        images=[np.zeros((100, 50, 3), np.uint8), np.zeros((7, 9, 3), np.uint8)],
        videos=np.zeros((5, 64, 48, 3), np.uint8),
        do_sample_frames=False,
        return_tensors="pt",
    )
    types = inputs["mm_token_type_ids"]
    assert sum(counts["num_image_tokens"]) == (types == 1).sum()
    assert counts["num_video_tokens"] == [(types == 2).sum()]
    assert processor.token_layout.patch_size == PATCH
