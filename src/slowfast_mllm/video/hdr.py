"""High dynamic range (PQ, HLG) -> the 8-bit sRGB pictures that everything else here is.

The mapping is that of web browsers (Skia's, for content of up to 1,000 nits): the largest of a
pixel's three lights, where 203 nits are 1, is compressed by x (1 + x / w^2) / (1 + x) with w the
light of 1,000 nits, which becomes white; the other two keep their ratio to it. What the file says
of the screen that it was mastered on is not asked: the same light gives the same picture in every
clip.

All of it is one table from a pixel's luma and chroma to its colour, filled as colours turn up, so
that a picture costs one look-up for each pixel.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

# What `tone_map` takes: planes of 10 bits, as nearly all HDR has them.
PIXEL_FORMAT = "yuv420p10le"
PQ, HLG = 16, 18  # ITU-T H.273 numbers, as FFmpeg has them
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
_LIMITED_RANGE, _FULL_RANGE = 1, 2

WHITE_NITS = 1000
_REFERENCE_NITS = 203  # diffuse white, ITU-R BT.2408
_WHITE = WHITE_NITS / _REFERENCE_NITS

# The table's axes have eight bits each: even steps of luma, and steps of chroma that are fine
# around grey and coarser where colours are strong.
_CHROMA_STEPS = 127
_STRIP_PIXELS = 1 << 16  # what stays in a core's cache while it is looked up

_TO_BT709 = {
    BT709: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    BT2020: (
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    DISPLAY_P3: (
        (1.224940, -0.224940, 0.0),
        (-0.042057, 1.042057, 0.0),
        (-0.019638, -0.078636, 1.098274),
    ),
}
# Weights of red and blue in luma, by matrix; all others are taken as BT.2020's.
_LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}
_LUMA_BT2020 = (0.2627, 0.0593)


def is_hdr(frame: VideoFrame) -> bool:
    """Whether its tags say PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def tone_mapping_note(transfer: int) -> str:
    """The line that says that a picture is not shown as it is."""
    name = "PQ" if transfer == PQ else "HLG"
    return f"HDR ({name}): tone-mapped to SDR, light above {WHITE_NITS} nits is white"


def tone_map_rgb(picture: Picture, transfer: int, primaries: int) -> Picture:
    """As `tone_map`, of PQ or HLG that is RGB already, uint8 (H, W, 3)."""
    frame = VideoFrame.from_ndarray(picture, format="rgb24")
    coded = frame.reformat(
        format=PIXEL_FORMAT, dst_colorspace=BT2020, dst_color_range=_LIMITED_RANGE, threads=1
    )
    coded.color_trc, coded.color_primaries = transfer, primaries
    coded.colorspace, coded.color_range = BT2020, _LIMITED_RANGE
    return tone_map(coded)


def tone_map(frame: VideoFrame) -> Picture:
    """The picture of a PQ or HLG frame.

    Args:
        frame: of `PIXEL_FORMAT`, with the tags of the stream; what it does not tell is taken as
            BT.2020 and limited range.

    Returns:
        uint8 (H, W, 3).
    """
    colours = _colours(
        int(frame.color_trc),
        int(frame.color_primaries),
        int(frame.colorspace),
        int(frame.color_range) == _FULL_RANGE,
    )
    luma, blue, red = (
        np.frombuffer(cast(Any, plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    )
    picture = np.empty((*luma.shape, 4), np.uint8)
    pixels = picture.view(np.uint32)[..., 0]
    step = max(1, _STRIP_PIXELS // 2 // frame.width)
    for top in range(0, blue.shape[0], step):
        pairs = _BLUE_STEPS.take(blue[top : top + step], mode="clip")
        pairs += _RED_STEPS.take(red[top : top + step], mode="clip")
        colours.fill(pairs)
        pairs = np.repeat(pairs << 8, 2, axis=1)[:, : frame.width]
        for first in (2 * top, 2 * top + 1):
            rows = slice(first, 2 * (top + step), 2)
            levels = luma[rows] >> 2
            pixels[rows] = colours.table.take(pairs[: len(levels)] + levels, mode="clip")
    # Much faster than NumPy's [..., :3].
    four = VideoFrame.from_numpy_buffer(picture, "rgba")
    return np.asarray(four.to_ndarray(format="rgb24", threads=1), np.uint8)


def _chroma_levels() -> Floats:
    """Distance from grey, in 10-bit codes, of each step of a chroma axis."""
    steps = np.arange(-_CHROMA_STEPS, _CHROMA_STEPS + 1)
    levels = 512 * (np.abs(steps) / (_CHROMA_STEPS + 0.5)) ** 1.5
    return np.asarray(np.copysign(levels, steps), np.float32)


def _nearest_steps() -> NDArray[np.int64]:
    """10-bit chroma -> its step."""
    levels = _chroma_levels()
    steps = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.arange(1024) - 512)
    return steps.astype(np.int64)


_BLUE_STEPS = _nearest_steps()
_RED_STEPS = _BLUE_STEPS << 8


class _Colours:
    """The colours of one kind of HDR by red chroma, blue chroma and luma.

    Attributes:
        table: uint32 (1 << 24,), each the bytes of red, green, blue and nothing.
    """

    def __init__(self, transfer: int, primaries: int, matrix: int, full: bool) -> None:
        self._light = _pq_light if transfer == PQ else _hlg_light
        self._to_bt709 = np.array(_TO_BT709.get(primaries, _TO_BT709[BT2020]), np.float32)
        self._from_red, self._from_blue = _LUMA.get(matrix, _LUMA_BT2020)
        scale, black, chroma_scale = (1023, 0, 1023) if full else (876, 64, 896)
        self._luma = ((np.arange(256) * 4 + 1.5 - black) / scale).astype(np.float32)
        self._chroma = _chroma_levels() / np.float32(chroma_scale)
        self.table = np.zeros(1 << 24, np.uint32)
        self._known = np.zeros(1 << 16, bool)
        self._filling = Lock()

    def fill(self, pairs: NDArray[np.int64]) -> None:
        """Have the colours of these pairs of chroma (red << 8 | blue) at all levels of luma."""
        known = self._known[pairs]
        if known.all():
            return
        with self._filling:
            missing = np.unique(pairs[~known])
            for pairs in np.array_split(missing, -(-len(missing) // 64)):
                colours = self.table.view(np.uint8).reshape(1 << 16, 256, 4)
                colours[pairs, :, :3] = np.moveaxis(self._compute(pairs), 0, -1)
                self._known[pairs] = True

    def _compute(self, pairs: NDArray[np.int64]) -> Picture:
        """uint8 (3, pairs, 256)."""
        red = self._luma + self._chroma[pairs >> 8, None] * (2 * (1 - self._from_red))
        blue = self._luma + self._chroma[pairs & 255, None] * (2 * (1 - self._from_blue))
        green = self._luma - self._from_red * red - self._from_blue * blue
        green /= 1 - self._from_red - self._from_blue
        light = self._light(np.stack([red, green, blue]))
        peak = light.max(axis=0)
        light *= (1 + peak / _WHITE**2) / (1 + peak)
        light = np.tensordot(self._to_bt709, light, axes=1).clip(0, 1)
        return _looked_up(_ENCODED, np.sqrt(light))


@lru_cache(maxsize=2)
def _colours(transfer: int, primaries: int, matrix: int, full: bool) -> _Colours:
    return _Colours(transfer, primaries, matrix, full)


def _looked_up(curve: NDArray[Any], coded: Floats) -> NDArray[Any]:
    return curve[(coded.clip(0, 1) * (len(curve) - 1) + 0.5).astype(np.int32)]


def _pq_light(coded: Floats) -> Floats:
    return _looked_up(_PQ_CURVE, coded)


def _hlg_light(coded: Floats) -> Floats:
    """As a screen of 1,000 nits shows it."""
    scene = _looked_up(_HLG_CURVE, coded)
    luminance = np.tensordot(np.array([0.2627, 0.6780, 0.0593], np.float32), scene, axes=1)
    return np.asarray(scene * luminance**0.2 * _WHITE, np.float32)


def _pq_curve(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = coded ** (1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * (10_000 / _REFERENCE_NITS)


def _hlg_curve(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)


def _srgb(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


_CODES = np.linspace(0, 1, 8192)
_PQ_CURVE = _pq_curve(_CODES).astype(np.float32)
_HLG_CURVE = _hlg_curve(_CODES).astype(np.float32)
# By the root of the light, so that the dark has as many places as it needs.
_ENCODED = np.rint(255 * _srgb(_CODES**2)).astype(np.uint8)
