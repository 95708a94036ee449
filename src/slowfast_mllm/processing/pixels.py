"""Pictures to normalised pixels: fitted, and by CLIP's statistics. Pure functions, no files.

The reference is CLIP's preprocessing with Pillow; the fast path of torch stays within two grey
levels of it.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from slowfast_mllm.video.fitting import Fit, fitted_size

_TORCH_MODES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
# Above this many times the crop, computing the whole resized picture is a waste: at 16384 x 16
# and an edge of 576 it would take a gigabyte a frame.
_MAX_OVERSIZE = 4
_MAX_PIXELS = 1 << 26
_SUPPORT = 2  # source pixels that the bicubic filter reaches to each side, when enlarging


def resized_shape(height: int, width: int, size: Any) -> tuple[int, int]:
    """Rows and columns after resizing.

    Args:
        size: a mapping with `shortest_edge` (the other edge follows, rounded down), or with
            `height` and `width`; None: no resizing.

    Raises:
        ValueError: `size` has other keys.
    """
    if size is None:
        return height, width
    if size["shortest_edge"] and not size["longest_edge"]:
        edge = size["shortest_edge"]
        if height <= width:
            return edge, max(edge, int(edge * width / height))
        return max(edge, int(edge * height / width)), edge
    if size["height"] and size["width"]:
        return size["height"], size["width"]
    raise ValueError(
        f"size={dict(size)} is not supported; give size={{'shortest_edge': 576}} or "
        "size={'height': 576, 'width': 576}."
    )


def output_shape(height: int, width: int, size: Any, crop: Any) -> tuple[int, int]:
    """Rows and columns of `resize_and_crop`'s result; see there."""
    if crop:
        return crop["height"], crop["width"]
    rows, columns = resized_shape(height, width, size)
    if rows * columns > _MAX_PIXELS:
        raise ValueError(
            f"size: a picture of {width}x{height} would become {columns}x{rows}; "
            "leave do_center_crop on, or give a smaller size={'height': 576, 'width': 576}."
        )
    return rows, columns


def outside_crop(height: int, width: int, size: Any, crop: Any) -> float:
    """The share of a picture, 0 to 1, that `resize_and_crop` cuts off; see there."""
    rows, columns = resized_shape(height, width, size)
    return 1 - min(rows, crop["height"]) * min(columns, crop["width"]) / (rows * columns)


def resize_whole(
    picture: np.ndarray,
    crop: Any,
    fit: Literal["pad", "squash"],
    border: float | Sequence[float],
    resample: int = Image.Resampling.BICUBIC,
) -> Tensor:
    """Resize with antialiasing so that all of a picture is seen.

    Args:
        picture: uint8 (H, W, 3).
        crop: a mapping with `height` and `width` of the result.
        border: what is put around it under "pad": one or three numbers from 0 to 1. The mean of the
            statistics becomes zero, which says least to a vision tower.
        resample: as for `resize_and_crop`.

    Returns:
        uint8 (3, height, width).

    Raises:
        ValueError: another filter or `fit`.
    """
    if fit not in ("pad", "squash"):
        raise ValueError(f"fit={fit!r:.100}: choose one of {', '.join(get_args(Fit))}.")
    _check_filter(resample)
    shape = crop["height"], crop["width"]
    if fit == "squash":
        return resize(picture, shape, resample)
    inner = fitted_size(picture.shape[1::-1], shape[::-1])[::-1]
    levels = torch.as_tensor(border, dtype=torch.float64).mul(255).round().expand(3)
    whole = levels.to(torch.uint8)[:, None, None].repeat(1, *shape)
    top, left = (shape[0] - inner[0]) // 2, (shape[1] - inner[1]) // 2
    whole[:, top : top + inner[0], left : left + inner[1]] = resize(picture, inner, resample)
    return whole


def resize_and_crop(
    picture: np.ndarray, size: Any, crop: Any, resample: int = Image.Resampling.BICUBIC
) -> Tensor:
    """Resize with antialiasing, then cut out the middle.

    Args:
        picture: uint8 (H, W, 3).
        size: as for `resized_shape`.
        crop: a mapping with `height` and `width`; None: keep everything.
        resample: bicubic or bilinear, as Pillow numbers them.

    Returns:
        uint8 (3, h, w); where the crop is larger than the picture, with a black border.

    Raises:
        ValueError: another filter or size, or a result that would not fit in memory.
    """
    _check_filter(resample)
    height, width = picture.shape[:2]
    target = output_shape(height, width, size, crop)
    rows, columns = resized_shape(height, width, size)
    shown = min(rows, target[0]), min(columns, target[1])
    if rows * columns > _MAX_OVERSIZE * shown[0] * shown[1]:
        pixels = _resize_middle(picture, (rows, columns), shown, resample)
    else:
        pixels = resize(picture, (rows, columns), resample)
    return centre_crop(pixels, crop["height"], crop["width"]) if crop else pixels


def _check_filter(resample: int) -> None:
    if resample not in _TORCH_MODES:
        raise ValueError(f"resample={resample} is not supported; give 3 (bicubic) or 2 (bilinear).")


def resize(picture: np.ndarray, shape: tuple[int, int], resample: int) -> Tensor:
    """Resize the whole of a picture with antialiasing.

    Torch works on uint8 directly, several times faster than Pillow, but knows no Lanczos filter.

    Args:
        picture: uint8 (H, W, 3).
        shape: rows and columns.
        resample: bicubic, bilinear or Lanczos, as Pillow numbers them.

    Returns:
        uint8 (3, *shape).
    """
    pixels = _channels_first(picture)
    if pixels.shape[1:] == shape:
        return pixels
    if resample == Image.Resampling.LANCZOS:
        return _channels_first(np.asarray(Image.fromarray(picture).resize(shape[::-1], resample)))
    mode = _TORCH_MODES[Image.Resampling(resample)]
    return F.interpolate(pixels[None], shape, mode=mode, antialias=True)[0]


def _resize_middle(
    picture: np.ndarray, shape: tuple[int, int], shown: tuple[int, int], resample: int
) -> Tensor:
    """The middle of the resized picture only, with what Pillow computes when asked for all of it.

    Columns first, then rows, each in a call of its own: asked for both with a box, Pillow would
    choose the order itself and round differently.
    """
    method = Image.Resampling(resample)
    (top, bottom), (left, right) = (
        _source_span(length, resized, wanted)
        for length, resized, wanted in zip(picture.shape, shape, shown, strict=False)
    )
    reach = math.ceil(_SUPPORT * max(1.0, picture.shape[0] / shape[0])) + 1
    first, last = max(0, math.floor(top) - reach), math.ceil(bottom) + reach
    rows = Image.fromarray(np.ascontiguousarray(picture[first:last]))
    narrow = rows.resize((shown[1], rows.height), method, box=(left, 0, right, rows.height))
    box = (0, top - first, shown[1], min(bottom - first, rows.height))
    return _channels_first(np.asarray(narrow.resize(shown[::-1], method, box=box)))


def _source_span(length: int, resized: int, wanted: int) -> tuple[float, float]:
    """Where the middle `wanted` of `resized` pixels lies among `length` source pixels."""
    first = (resized - wanted) // 2
    scale = length / resized
    return first * scale, min((first + wanted) * scale, length)


def _channels_first(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)


def centre_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of (..., H, W); a smaller picture gets a black border."""
    missing = (max(height - pixels.shape[-2], 0), max(width - pixels.shape[-1], 0))
    if any(missing):
        top, left = math.ceil(missing[0] / 2), math.ceil(missing[1] / 2)
        pixels = F.pad(pixels, (left, missing[1] - left, top, missing[0] - top))
    top = (pixels.shape[-2] - height) // 2
    left = (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def affine(
    rescale_factor: float | None, mean: Any | None, std: Any | None
) -> tuple[Tensor, Tensor]:
    """`pixels * factor - offset` for rescaling and then normalising; None leaves a step out.

    Returns:
        Two float32 tensors of shape (3, 1, 1).
    """
    factor = torch.full(
        (3,), 1.0 if rescale_factor is None else rescale_factor, dtype=torch.float64
    )
    offset = torch.zeros(3, dtype=torch.float64)
    if mean is not None and std is not None:
        deviation = torch.as_tensor(std, dtype=torch.float64)
        factor = factor / deviation
        offset = (torch.as_tensor(mean, dtype=torch.float64) / deviation).expand(3)
    return factor.float().view(3, 1, 1), offset.float().view(3, 1, 1)
