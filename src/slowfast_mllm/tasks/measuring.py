"""Looking at every frame of a video, shrunk, one after the other: what is measured keeps none.

An hour of film needs the memory of a minute: what measures keep of a frame are a few numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.video import VideoError, VideoInfo, resizing, walk_video
from slowfast_mllm.video.names import short_name

# Pixels of the longer side of what is looked at: enough to see a shift by a thousandth of it.
_SIDE = 160


class Measure(Protocol):
    """What is told of frames."""

    def see(self, picture: NDArray[np.uint8]) -> None:
        """Take in the next frame, (H, W, 3), at most 160 pixels a side."""


def walk(
    video: Any,
    begin: Callable[[float], Sequence[Measure]],
    frames_fps: float | None = None,
    clip: bool = False,
) -> tuple[NDArray[np.float64], VideoInfo]:
    """Show every frame of a video to each measure.

    Args:
        video, frames_fps, clip: As for `read_video`.
        begin: Gives the measures, of frames a second as the file tells them (0.0: unknown). Called
            again where the video turns out to be damaged and is read anew.

    Returns:
        float64 seconds (T,) of the frames, and the facts about the video.

    Raises:
        VideoError: It cannot be read, or is a single picture.
    """

    def visit(fps: float) -> Callable[[NDArray[np.uint8]], None]:
        measures = begin(fps)

        def see(picture: NDArray[np.uint8]) -> None:
            for measure in measures:
                measure.see(picture)

        return see

    shrink = resizing(_shrunk_shape, Image.Resampling.BOX)
    times, info = walk_video(video, visit, frames_fps=frames_fps, clip=clip, transform=shrink)
    if len(times) < 2:
        raise VideoError(
            f"{short_name(info.path)}: a single picture, and what is measured here is between "
            "frames; give a video"
        )
    return times, info


def _shrunk_shape(height: int, width: int) -> tuple[int, int]:
    factor = min(1.0, _SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
