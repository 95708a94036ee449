"""How much the picture of a video changes, from a few small frames: a quick look, not a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.video.picture import resizing
from slowfast_mllm.video.result import SampledVideo, VideoInfo
from slowfast_mllm.video.sources import read_video

_SIDE = 32  # pixels of what is compared: noise and grain are averaged away
_PLACES = 16  # at which two frames are compared, however long the video
_APART = 0.2  # seconds between the two, or a frame and a half where frames come slower
_QUANTILE = 0.75
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709, of values as shown


def _small(height: int, width: int) -> tuple[int, int]:
    return _SIDE, _SIDE


SMALL = resizing(_small, Image.Resampling.BOX)


def luma(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., 3) RGB to (...), 0 to 255."""
    return pictures @ _LUMA


def picture_change(
    source: Any,
    info: VideoInfo,
    start: float,
    end: float,
    read: Callable[..., SampledVideo] = read_video,
    **how: Any,
) -> float:
    """Levels of luma, of 255, by which the picture changes in a second.

    Frames a fifth of a second apart are compared at 16 places, and what a quarter of the places
    exceeds is told: a cut is no motion, and a clip that moves in part does move.

    Args:
        source: As for `read_video`, but nothing that can be read only once.
        info: Of the source.
        start, end: Seconds of the part that is looked at.
        read: as `read_video`.
        **how: `frames_fps` and `clip`, as for `read_video`.

    Raises:
        VideoError: The source cannot be read.
    """
    apart = max(_APART, 1.5 / info.fps if info.fps else _APART)
    if info.num_frames < 2 or end - start <= apart:
        return 0.0
    places = np.linspace(start, end - apart, _PLACES, endpoint=False)
    at = np.stack([places, places + apart], 1).ravel().tolist()
    seen = read(source, at=at, transform=SMALL, **how)
    change = np.abs(np.diff(luma(seen.frames).reshape(_PLACES, 2, -1), axis=1)).mean((1, 2))
    seconds = np.diff(seen.timestamps.reshape(_PLACES, 2), axis=1)[:, 0]
    other = seconds > 0
    if not other.any():
        return 0.0
    return float(np.quantile(change[other] / seconds[other], _QUANTILE))
