"""Files with a picture for each eye: where the left one lies in the stored pictures."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

Window = tuple[int, int, int, int]  # left, top, width, height

_BESIDE = {1: "side by side", 5: "side by side"}  # of AVStereo3DType; 5: in a chequered sampling
_STACKED = {2: "top and bottom"}
_INVERTED = 1  # of AV_STEREO3D_FLAG: the right eye comes first
# Frames of one aspect that hold two pictures of usual aspect hold them squeezed: half of 16:9 is
# nobody's picture, while two of 16:9, or the two square ones of VR180, make wider frames.
_SQUEEZED_BESIDE, _SQUEEZED_STACKED = Fraction(19, 10), Fraction(17, 10)


def left_eye(
    side_data: Mapping[str, Any] | None, window: Window, aspect: Fraction | None
) -> tuple[Window, Fraction | None, tuple[str, ...]]:
    """The part of `window` that the left eye sees, its samples' ratio, and a line that says so.

    Without side data of stereo pictures everything as it is.
    """
    packed = (side_data or {}).get("STEREO3D")
    if packed is None or packed.buffer_size < 8:
        return window, aspect, ()
    kind, flags = struct.unpack("=2i", bytes(packed)[:8])
    left, top, width, height = window
    ratio = aspect or Fraction(1)
    whole = Fraction(width, height) * ratio
    second = bool(flags & _INVERTED)
    if kind in _BESIDE and width > 1:
        ratio *= 2 if whole < _SQUEEZED_BESIDE else 1
        left, width = left + second * (width // 2), width // 2
    elif kind in _STACKED and height > 1:
        ratio /= 2 if whole > _SQUEEZED_STACKED else 1
        top, height = top + second * (height // 2), height // 2
    else:
        return window, aspect, ()
    said = f"a stereo file ({(_BESIDE | _STACKED)[kind]}): what the left eye sees is looked at"
    return (left, top, width, height), ratio, (said,)
