"""Pictures of one clip that differ in size, brought into one size: aspect kept, between borders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
# How a picture of another aspect becomes one of a model's size. "crop": shortest edge to size, then
# the middle of it (as the published checkpoints were trained); "pad": all of it, with its aspect,
# between borders; "squash": all of it, without its aspect.
Fit = Literal["crop", "pad", "squash"]
# Sides that differ by less than this are rounding, or a codec's blocks: no border is worth it.
_SAME = 0.01


def fitted_size(size: Size, into: Size) -> Size:
    """The largest (width, height) of the aspect of `size` within `into`.

    It is `into` itself where the aspects are the same but for rounding.
    """
    scale = min(into[0] / size[0], into[1] / size[1])
    exact = size[0] * scale, size[1] * scale
    if all(whole - side < max(1.0, _SAME * whole) for side, whole in zip(exact, into, strict=True)):
        return into
    return max(1, round(exact[0])), max(1, round(exact[1]))


def on_black(picture: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The picture (h, w, 3) in the middle of a black one of `size` (width, height)."""
    if picture.shape[1::-1] == size:
        return picture
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    height, width = picture.shape[:2]
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas


def fitting_warnings(others: Iterable[Size], size: Size) -> list[str]:
    """A line where sizes among `others` did not have the aspect of `size`, to which all went."""
    bordered = sorted({other for other in others if fitted_size(other, size) != size})
    if not bordered:
        return []
    few = " and ".join(f"{width}x{height}" for width, height in bordered[:2])
    more = f" and {len(bordered) - 2} other sizes" if len(bordered) > 2 else ""
    return [
        f"the picture changes to {few}{more}: fitted into {size[0]}x{size[1]} with black borders"
    ]
