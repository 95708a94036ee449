"""One decoded FFmpeg frame -> one upright RGB picture.

Rules: the display matrix (turns by quarters, mirrored or not) and the sample aspect ratio are
applied; pictures are only ever enlarged by the latter. Alpha is dropped: colours are those
stored beneath, and white where a GIF stores none. Interlaced frames stay one picture. What a file
hides (crops, the right eye) is cut off. Every frame is fitted into the shape of the clip's first
one. Nothing here seeks, decodes or chooses frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.video import hdr
from slowfast_mllm.video.fitting import Size, fitted_size, fitting_warnings, on_black
from slowfast_mllm.video.result import VideoError
from slowfast_mllm.video.stereo import Window, left_eye

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

    def turned(self, size: Size) -> Size:
        """(width, height) upright of a stored one, and the other way round."""
        return size[::-1] if self.transpose else size

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
        window: The part of the stored picture that is shown.
        scaled: (width, height) of that part after the sample aspect ratio, not yet turned.
        orientation: The turn to apply.
        aspect: The ratio of the samples, for pictures of another size; None: square.
        notes: One line each: what of the stored pictures is not shown.
    """

    stored: Size
    window: Window
    scaled: Size
    orientation: Orientation
    aspect: Fraction | None = None
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> Size:
        """(width, height) as shown."""
        return self.orientation.turned(self.scaled)


def shape_of(
    frame: VideoFrame, aspect: Fraction | None, name: str, window: Window | None = None
) -> PictureShape:
    """The shape of a decoded frame whose samples have the ratio `aspect` (None: square).

    Args:
        window: What of it the file wants shown; None: all of it.

    Raises:
        VideoError: A side is above `MAX_SIDE` pixels.
    """
    stored = frame.width, frame.height
    check_size(*stored, name)
    window = window or (0, 0, *stored)
    window, aspect, notes = left_eye(_side_data(frame), window, aspect)
    scaled = _scaled(window[2:], aspect)
    return PictureShape(stored, window, scaled, _orientation(frame), aspect, notes)


def _scaled(size: Size, aspect: Fraction | None) -> Size:
    if aspect is None or not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        return size
    wider, taller = max(Fraction(1), aspect), max(Fraction(1), 1 / aspect)
    scaled = (round(size[0] * wider), round(size[1] * taller))
    return size if max(scaled) > MAX_SIDE else scaled


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


def resizing(shape: Callable[[int, int], tuple[int, int]], resample: Image.Resampling) -> Transform:
    """Each picture resized to `shape` (see `Transform`) by Pillow; as it is where it has that."""

    return Transform(shape, partial(_resized, shape, resample))


# Not within `resizing`: it is handed to other processes.
def _resized(
    shape: Callable[[int, int], tuple[int, int]], resample: Image.Resampling, picture: Picture
) -> Picture:
    height, width = shape(*picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), resample))


UNCHANGED = Transform(lambda height, width: (height, width), lambda picture: picture)


def _side_data(frame: VideoFrame) -> Mapping[str, Any] | None:
    """What FFmpeg tells beside the picture; None where a kind is there that PyAV does not know."""
    try:
        return cast(Mapping[str, Any], frame.side_data)
    except ValueError:  # e.g. EXIF
        return None


def _orientation(frame: VideoFrame) -> Orientation:
    side_data = _side_data(frame)
    if side_data is None:  # quarter turns are told anyway
        return _TURNS.get(-frame.rotation % 360, Orientation())
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None or matrix.buffer_size < 36:
        return Orientation()
    # Rows of the matrix: (a, b, u), (c, d, v), (x, y, w); x' = a x + c y, y' = b x + d y.
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


@dataclass
class RgbConverter:
    """Turns decoded frames into upright uint8 (H, W, 3) pictures of one shape.

    Keeps swscale's state between frames, so each thread needs its own.

    Attributes:
        shape: The shape.
        transform: What the caller will do to the pictures: HDR is shrunk before its light is
            mapped where this would shrink it afterwards, so its pictures may come smaller.
        others: Sizes as shown of the frames that had another one.
    """

    shape: PictureShape
    transform: Transform = UNCHANGED
    others: set[Size] = field(default_factory=set)
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def see(self, frame: VideoFrame) -> bool:
        """Note the size of a frame; whether it is the first one's."""
        if (frame.width, frame.height) == self.shape.stored:
            return True
        self.others.add(_orientation(frame).turned(self._size(frame)))
        return False

    def __call__(self, frame: VideoFrame) -> Picture:
        """The picture; a view whose rows and columns may be in any memory order."""
        shape = self.shape
        if not self.see(frame):
            turn = _orientation(frame)
            inner = turn.turned(fitted_size(turn.turned(self._size(frame)), shape.shown))
            return on_black(turn.apply(self._rgb(frame, inner)), shape.shown)
        left, top, width, height = shape.window
        if (width, height) == shape.stored:
            size = self._reduced if hdr.is_hdr(frame) else shape.scaled
            return shape.orientation.apply(self._rgb(frame, size))
        part = self._rgb(frame, shape.stored)[top : top + height, left : left + width]
        if (width, height) != shape.scaled:
            whole = VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")
            part = self._rgb(whole, shape.scaled)
        return shape.orientation.apply(part)

    def warnings(self) -> list[str]:
        """A line where frames of another aspect were fitted in."""
        return fitting_warnings(self.others, self.shape.shown)

    def _size(self, frame: VideoFrame) -> Size:
        return _scaled((frame.width, frame.height), self.shape.aspect)

    def _rgb(self, frame: VideoFrame, size: Size) -> Picture:
        """The whole stored picture in another size (width, height)."""
        resized = (frame.width, frame.height) != size
        light = hdr.is_hdr(frame)
        # Not resized: swscale's default, as PyAV's own to_ndarray has it.
        interpolation = "BICUBIC" if resized else None
        reformatted = self._reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format=hdr.PIXEL_FORMAT if light else "rgb24",
            # What is RGB already has no matrix to keep.
            dst_colorspace=hdr.BT2020 if light and frame.format.is_rgb else None,
            interpolation="AREA" if light and size[0] < frame.width else interpolation,
            threads=1,
        )
        if light:
            return hdr.tone_map(reformatted)
        return np.asarray(reformatted.to_ndarray(), dtype=np.uint8)

    @cached_property
    def _reduced(self) -> Size:
        """What is left to shrink for the transform, with a margin for what it may cut off."""
        shown = self.shape.shown
        wanted = self.transform.size(shown)
        factor = min(int(side / (1.25 * kept)) for side, kept in zip(shown, wanted, strict=True))
        width, height = (-(-side // max(1, factor)) for side in self.shape.scaled)
        smaller = self.shape.orientation.turned((width, height))
        return (width, height) if self.transform.size(smaller) == wanted else self.shape.scaled
