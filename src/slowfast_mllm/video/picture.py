"""One decoded FFmpeg frame -> one upright RGB picture.

Rules: the display matrix (turns by quarters, mirrored or not) and the sample aspect ratio are
applied; pictures are only ever enlarged by the latter. Alpha is dropped: colours are those
stored beneath, and white where a GIF stores none. Interlaced frames stay one picture. Every frame
is brought to the shape of the clip's first one. Nothing here seeks, decodes or chooses frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from slowfast_mllm.video.result import VideoError

Picture = NDArray[np.uint8]

MAX_SIDE = 16384
MAX_OUTPUT_BYTES = 4 << 30
# Beyond this the ratio is damage or a joke, and following it would blow the picture up.
_MAX_ASPECT = 16


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: transpose first, then mirror columns, then rows."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def degrees(self) -> int:
        """The clockwise turn in degrees, to which mirroring the columns may be added."""
        if self.transpose:
            return 270 if self.mirror_y else 90
        return 180 if self.mirror_y else 0

    def apply(self, picture: Picture) -> Picture:
        """A view of `picture` (H, W, C) with rows and columns in upright order."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        if self.mirror_x:
            picture = picture[:, ::-1]
        return picture[::-1] if self.mirror_y else picture


_TURNS = {
    90: Orientation(transpose=True, mirror_x=True),
    180: Orientation(mirror_x=True, mirror_y=True),
    270: Orientation(transpose=True, mirror_y=True),
}


@dataclass(frozen=True)
class PictureShape:
    """The shape of a clip's first frame, which all its pictures share.

    Attributes:
        stored: (width, height) as coded.
        scaled: (width, height) after the sample aspect ratio, not yet turned.
        orientation: The turn to apply.
    """

    stored: tuple[int, int]
    scaled: tuple[int, int]
    orientation: Orientation

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) as shown."""
        width, height = self.scaled
        return (height, width) if self.orientation.transpose else (width, height)


def shape_of(frame: VideoFrame, aspect: Fraction | None, name: str) -> PictureShape:
    """The shape of a decoded frame whose samples have the ratio `aspect` (None: square).

    Raises:
        VideoError: A side is above `MAX_SIDE` pixels.
    """
    width, height = frame.width, frame.height
    check_size(width, height, name)
    scaled = (width, height)
    if aspect is not None and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        wider, taller = max(Fraction(1), aspect), max(Fraction(1), 1 / aspect)
        scaled = (round(width * wider), round(height * taller))
    if max(scaled) > MAX_SIDE:
        scaled = (width, height)
    return PictureShape((width, height), scaled, _orientation(frame))


def check_size(width: int, height: int, name: str) -> None:
    """Raise VideoError where a picture of this size is not worth its memory."""
    if max(width, height) > MAX_SIDE:
        raise VideoError(
            f"{name}: pictures of {width}x{height} pixels are too large, at most "
            f"{MAX_SIDE} a side are read; scale it down first"
        )


def allocate(count: int, size: tuple[int, int], name: str) -> Picture:
    """An empty uint8 (count, H, W, 3) for pictures of `size` (width, height).

    Raises:
        VideoError: It would be larger than `MAX_OUTPUT_BYTES`, or than the free memory.
    """
    width, height = size
    wanted = count * width * height * 3
    reason = f"more than {MAX_OUTPUT_BYTES >> 30} GiB"
    if wanted <= MAX_OUTPUT_BYTES:
        try:
            return np.empty((count, height, width, 3), dtype=np.uint8)
        except MemoryError:
            reason = "more than is free"
    raise VideoError(
        f"{name}: {count} frames of {width}x{height} need {wanted / 2**30:.1f} GiB, {reason}; "
        "ask for fewer, for example num_frames=64"
    )


@dataclass(frozen=True)
class Transform:
    """What is done to each picture as soon as it is decoded, in the decoding thread.

    Large pictures are then never held together, and shrinking them costs no time of its own.

    Attributes:
        shape: (height, width) of a picture -> (height, width) of its result.
        apply: uint8 (H, W, 3) -> uint8 (h, w, 3).
    """

    shape: Callable[[int, int], tuple[int, int]]
    apply: Callable[[Picture], Picture]

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """As `shape`, of (width, height)."""
        height, width = self.shape(size[1], size[0])
        return width, height


UNCHANGED = Transform(lambda height, width: (height, width), lambda picture: picture)


def _orientation(frame: VideoFrame) -> Orientation:
    try:
        side_data = cast(Mapping[str, Any], frame.side_data)
    except ValueError:  # a kind that PyAV does not know, e.g. EXIF; quarter turns it tells anyway
        return _TURNS.get(-frame.rotation % 360, Orientation())
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None or matrix.buffer_size < 36:
        return Orientation()
    # Rows of the matrix: (a, b, u), (c, d, v), (x, y, w); x' = a x + c y, y' = b x + d y.
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


class RgbConverter:
    """Turns decoded frames into upright uint8 (H, W, 3) pictures of one shape.

    Keeps swscale's state between frames, so each thread needs its own.
    """

    def __init__(self, shape: PictureShape) -> None:
        self._shape = shape
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Picture:
        """The picture; a view whose rows and columns may be in any memory order."""
        width, height = self._shape.scaled
        resized = (frame.width, frame.height) != (width, height)
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            # Not resized: swscale's default, as PyAV's own to_ndarray has it.
            interpolation="BICUBIC" if resized else None,
            threads=1,
        ).to_ndarray()
        return self._shape.orientation.apply(np.asarray(rgb, dtype=np.uint8))
