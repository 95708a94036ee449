"""From pixels to tokens: towers of transformers, chunks of frames, motion channels, positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import assert_close, greedy, one_video_prompt, pad, tiny_model, video

from slowfast_mllm.model.visual_tokens import (
    add_motion_channels,
    coarse_motion,
    fast_frames,
    num_fast_frames,
    position_features,
)

_TRANSFORMER = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TOWERS = {
    "clip": {"model_type": "clip_vision_model", **_TRANSFORMER},  # has a class token
    "siglip": {"model_type": "siglip_vision_model", **_TRANSFORMER, "vision_use_head": False},
    "convnext": {"depths": [1, 2], "hidden_sizes": [8, 16]},
}


@pytest.mark.parametrize("tower", TOWERS)
def test_a_vision_tower_by_configuration(tower: str, tmp_path) -> None:
    model = tiny_model(vision=TOWERS[tower])
    fast, slow = model.model.visual_tokens(video(6))
    assert (fast.shape, slow.shape) == ((3 * 4, 32), (6 * 4, 32))
    inputs = pad([one_video_prompt()])
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        logits = model(**inputs, pixel_values_videos=video()[None]).logits
        other = model(**inputs, pixel_values_videos=video(seed=5)[None]).logits
        assert (logits - other)[:, -1].abs().max() > 1e-2
        assert_close(again(**inputs, pixel_values_videos=video()[None]).logits, logits, atol=1e-5)


@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_cells_of_a_transformer_tower_keep_their_place(tower: str) -> None:
    """A change in the lower right corner of the frame changes the last cell most."""
    model = tiny_model(vision=TOWERS[tower], slow_spatial_pool=1)
    frames = video(1)
    changed = frames.clone()
    changed[..., 24:, 24:] += 3
    with torch.no_grad():
        slow, other = (model.model.visual_tokens(f)[1] for f in (frames, changed))
    assert (slow - other).abs().sum(-1).argmax() == 15


@pytest.mark.parametrize("chunk", [1, 2, 5, 6, 100])
@pytest.mark.parametrize("motion", [False, True])
def test_encoding_in_chunks_changes_nothing(chunk: int, motion: bool) -> None:
    """Motion crosses the borders of chunks."""
    channels = {"num_channels": 5 if motion else 3}
    model = tiny_model(vision=channels, motion_features=motion, vision_chunk_frames=chunk)
    whole = tiny_model(vision=channels, motion_features=motion)
    with torch.no_grad():
        for part, expected in zip(
            model.model.visual_tokens(video(6)), whole.model.visual_tokens(video(6)), strict=True
        ):
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


def test_frames_may_come_in_chunks() -> None:
    """Times, and motion across borders, are those of the whole video."""
    model = tiny_model(
        vision={"num_channels": 5}, motion_features=True, visual_position_encoding=True
    )
    frames, times = video(7, size=64), torch.linspace(0, 3, 7)
    with torch.no_grad():
        whole = model.encode_video(frames, times)
        parts = model.encode_video(iter(frames.split([3, 1, 3])), times)
    torch.testing.assert_close(parts.fast_tokens, whole.fast_tokens, atol=1e-5, rtol=1e-5)
    for layer, keys in whole.slow_keys.items():
        torch.testing.assert_close(parts.slow_keys[layer], keys, atol=1e-5, rtol=1e-5)
    for wrong in (times[:5], torch.arange(8)):
        with pytest.raises(ValueError, match="a video of 7 frames needs as many times"):
            model.encode_video(iter(frames.split(2)), wrong)
    with pytest.raises(ValueError, match="needed where frames come in chunks"):
        model.encode_video(iter(frames.split(2)))


def test_chunks_bound_what_the_tower_sees_at_once() -> None:
    model = tiny_model(vision_chunk_frames=4)
    sizes: list[int] = []
    model.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    model.encode_video(video(9))
    assert sizes == [4, 4, 1]


def test_motion_features_are_luminance_changes() -> None:
    frames = torch.zeros(3, 3, 2, 2)
    frames[1] = 1.0  # one flash
    channels = add_motion_channels(frames)
    assert channels.shape == (3, 5, 2, 2)
    assert channels[:, 3, 0, 0].tolist() == pytest.approx([0, 1, -1])
    assert channels[:, 4, 0, 0].tolist() == pytest.approx([1, -1, 0])


def test_with_motion_features_the_order_of_frames_shows_in_each_frame() -> None:
    model = tiny_model(vision={"num_channels": 5}, motion_features=True)
    frames = video(3)
    with torch.no_grad():
        slow = model.model.visual_tokens(frames)[1].unflatten(0, (3, 4))
        swapped = model.model.visual_tokens(frames[[2, 1, 0]])[1].unflatten(0, (3, 4))
    assert (slow[1] - swapped[1]).abs().max() > 1e-3  # the same frame, other neighbours


def test_positions_tell_time_and_place() -> None:
    model = tiny_model(visual_position_encoding=True)
    still = video(1).expand(6, -1, -1, -1)
    with torch.no_grad():
        slow = model.model.visual_tokens(still)[1].unflatten(0, (6, 4))
        later = model.model.visual_tokens(still, torch.arange(6) + 10.0)[1].unflatten(0, (6, 4))
    assert (slow[0] - slow[5]).abs().max() > 1e-2
    assert (slow - later).abs().max() > 1e-2
    assert model.encode_video(still).timestamps.tolist() == [0, 1, 2, 3, 4, 5]


def test_timestamps_reach_the_answer() -> None:
    model = tiny_model(visual_position_encoding=True)
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        default = model(**inputs).logits
        seconds = torch.arange(6)[None]
        assert torch.equal(model(**inputs, video_timestamps=seconds).logits, default)
        slow_motion = model(**inputs, video_timestamps=seconds * 7.0).logits
    assert (slow_motion - default).abs().max() > 1e-3


def test_position_features_differ_for_every_cell() -> None:
    features = position_features(torch.tensor([0.0, 0.5, 30.0, 200.0]), 3, 5, 24).flatten(0, 2)
    distances = torch.cdist(features, features) + 10 * torch.eye(len(features))
    assert distances.min() > 1e-2


@settings(deadline=None, max_examples=60)
@given(
    total=st.integers(1, 70),
    stride=st.integers(1, 4),
    pool=st.integers(1, 6),
    least=st.integers(1, 20),
)
def test_fast_frames_are_averages_in_order(total: int, stride: int, pool: int, least: int) -> None:
    times = torch.arange(float(total))[:, None, None, None]
    fast = fast_frames(times, stride, pool, least).flatten().tolist()
    assert len(fast) == num_fast_frames(total, stride, pool, least)
    assert fast == sorted(fast)
    assert len(fast) >= min(total, least)
    assert 0 <= fast[0] <= fast[-1] <= total - 1


def test_bfloat16_model_answers_close_to_float32() -> None:
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        full = tiny_model()(**inputs).logits
        half_model = tiny_model().to(torch.bfloat16)
        half = half_model(**inputs).logits
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.05 * full.abs().mean() + 0.02
    assert greedy(half_model, **inputs).shape == (1, 8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("speed", [-1.5, -0.3, 0.3, 1.5])
def test_a_slow_pan_is_heard_beside_a_cut(axis: int, speed: float) -> None:
    """Pixels a frame; a cut, which gives nonsense, is no more than ten times as loud."""
    time = torch.arange(5.0)[:, None, None]
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    moved = (x, y)[axis] + speed * time
    luma = torch.sin(moved / 5) + torch.sin(((y, x)[axis] + moved) / 9)
    motion = coarse_motion(luma[:, None].expand(-1, 3, -1, -1), 3, 3)
    along = motion.unflatten(-1, (4, 4))[..., [axis, axis + 2], :]
    across = motion.unflatten(-1, (4, 4))[..., [1 - axis, 3 - axis], :]
    assert along.mean().sign() == -torch.tensor(speed).sign()
    assert along.mean().abs() > 5 * across.mean().abs()
    frames = torch.rand(2, 1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    cut = coarse_motion(frames.expand(-1, 2, -1, -1, -1).flatten(0, 1), 3, 3)
    assert along.abs().mean() > cut.abs().max() / 10
