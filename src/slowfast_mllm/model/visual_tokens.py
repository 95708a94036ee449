"""How frames become slow and fast tokens: pure functions on tensors, no weights.

Letters in shapes: T frames, h x w cells of a frame's map, D width of the language model.
Source: paper section 3.2; the rounding rules are those of the official implementation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rec. 601 luma weights: brightness is enough to see that something moved.
_LUMA = (0.299, 0.587, 0.114)
_SMALL_MOTION = 60.0  # 1 / displacement in patches from which on motion is told by its logarithm


def add_motion_channels(frames: Tensor) -> Tensor:
    """Append the luminance change to the frame before and after: (T, 3, H, W) -> (T, 5, H, W).

    The first frame has no previous and the last no next: their change is zero, as for an image.
    """
    luma = (frames * frames.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    step = luma[1:] - luma[:-1]
    edge = torch.zeros_like(luma[:1])
    return torch.cat([frames, torch.cat([edge, step]), torch.cat([step, edge])], dim=1)


def coarse_motion(frames: Tensor, rows: int, columns: int) -> Tensor:
    """Where the picture moves: least-squares optical flow of four patches in each cell, two scales.

    Small displacements only (Lucas and Kanade, 1981); a cut or a fast object gives nonsense, which
    the model learns to tell by its size. Sizes are told by their inverse hyperbolic sine: a pan is
    a hundredth of a patch or a few, and would drown in nonsense.

    Args:
        frames: (T, 3, H, W), H and W at least 16 times `rows` and `columns`.

    Returns:
        (T, rows, columns, 16): asinh(60 d) for a displacement d to the next frame in patches, x
        and y, of at most 1.
    """
    luma = (frames.float() * frames.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    patches = (2 * rows, 2 * columns)
    flows = [_flow(F.avg_pool2d(luma, scale), patches) for scale in (2, 4)]
    flow = torch.cat(flows, dim=1).clamp(-1, 1)  # (T, 4, 2 * rows, 2 * columns)
    return torch.asinh(_SMALL_MOTION * F.pixel_unshuffle(flow, 2)).permute(0, 2, 3, 1)


def _flow(luma: Tensor, patches: tuple[int, int]) -> Tensor:
    """Displacement per frame of each patch, in patches: (T, 1, H, W) -> (T, 2, *patches)."""
    dx = (luma[..., 1:-1, 2:] - luma[..., 1:-1, :-2]) / 2
    dy = (luma[..., 2:, 1:-1] - luma[..., :-2, 1:-1]) / 2
    before = torch.cat([luma[:1], luma[:-1]])
    after = torch.cat([luma[1:], luma[-1:]])
    frames_apart = luma.new_full((luma.shape[0], 1, 1, 1), 2.0)
    frames_apart[[0, -1]] = 1.0
    dt = ((after - before) / frames_apart)[..., 1:-1, 1:-1]
    xx, yy, xy, xt, yt = (
        F.adaptive_avg_pool2d(product, patches)
        for product in (dx * dx, dy * dy, dx * dy, dx * dt, dy * dt)
    )
    xx, yy = xx + 1e-3, yy + 1e-3  # a flat patch does not move
    scale = luma.new_tensor([luma.shape[-1] / patches[1], luma.shape[-2] / patches[0]])
    flow = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)
    return flow / scale.view(1, 2, 1, 1)


def pool_space(maps: Tensor, pool: int) -> Tensor:
    """Average `pool` x `pool` cells: (T, h, w, D) -> (T, h // pool, w // pool, D)."""
    if pool == 1:
        return maps
    return F.avg_pool2d(maps.permute(0, 3, 1, 2), pool).permute(0, 2, 3, 1)


def num_fast_frames(num_frames: int, stride: int, pool: int, min_frames: int) -> int:
    """How many time steps the fast tokens of `num_frames` frames have (see `fast_frames`)."""
    kept = min(num_frames, max(num_frames // stride, min_frames))
    return kept // pool if kept // pool >= min_frames else min(kept, min_frames)


def fast_frames(maps: Tensor, stride: int, pool: int, min_frames: int) -> Tensor:
    """Sample and average over time: (T, h, w, D) -> (num_fast_frames, h, w, D).

    Frames `int(i * T / n)`, n = max(T // stride, min_frames), all if there are fewer; then blocks
    of `pool` are averaged, unless that would leave fewer than `min_frames`: then adaptively.
    """
    total = maps.shape[0]
    kept = max(total // stride, min_frames)
    if kept < total:
        index = torch.arange(kept, device=maps.device) * total // kept
        maps = maps[index]
    steps = maps.shape[0] // pool
    if steps >= min_frames:  # not avg_pool3d: it has no bf16 kernel on CPUs
        return maps[: steps * pool].unflatten(0, (steps, pool)).mean(1)
    flat = maps.flatten(1).T[None]  # (1, h*w*D, T)
    pooled = F.adaptive_avg_pool1d(flat, min(maps.shape[0], min_frames))
    return pooled[0].T.unflatten(1, maps.shape[1:])


def position_features(times: Tensor, rows: int, columns: int, dim: int) -> Tensor:
    """Sinusoids of time, row and column for each token: (T,) seconds -> (T, rows, columns, dim).

    A third of the features speaks of each. Periods of time run from 0.5 s to 256 s, those of place
    from a quarter of the frame to four frames. `dim` must be divisible by 6.
    """

    def places(count: int) -> Tensor:
        return (torch.arange(count, device=times.device, dtype=torch.float32) + 0.5) / count

    size = (times.shape[0], rows, columns, dim // 3)
    time_waves, place_waves = _frequencies(dim, times.device)
    return torch.cat(
        [
            _waves(times.float(), time_waves)[:, None, None].expand(size),
            _waves(places(rows), place_waves)[None, :, None].expand(size),
            _waves(places(columns), place_waves)[None, None].expand(size),
        ],
        dim=-1,
    )


def object_position_features(times: Tensor, centres: Tensor, dim: int) -> Tensor:
    """As `position_features`, for centres (T, N, 2) x and y in 0..1: (T, N, dim)."""
    time_waves, place_waves = _frequencies(dim, times.device)
    when = _waves(times.float(), time_waves)[:, None].expand(*centres.shape[:2], dim // 3)
    column, row = (_waves(centres[..., axis].float(), place_waves) for axis in (0, 1))
    return torch.cat([when, row, column], dim=-1)


def object_motion(moved: Tensor, rows: int, columns: int) -> Tensor:
    """As `coarse_motion` tells it: how far centres (T, N, 2) moved as shares of the frame -> 16."""
    in_patches = moved * moved.new_tensor([2 * columns, 2 * rows])
    told = torch.asinh(_SMALL_MOTION * in_patches.clamp(-1, 1))
    return told.repeat_interleave(4, -1).repeat(1, 1, 2)


def _frequencies(dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of time in seconds and of place in frames."""
    exponent = torch.linspace(0, 1, dim // 6, device=device)
    return 2 * torch.pi / (0.5 * 512.0**exponent), 2 * torch.pi / (0.25 * 16.0**exponent)


def _waves(position: Tensor, frequency: Tensor) -> Tensor:
    """(...) -> (..., 2 * waves)."""
    angle = position[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
