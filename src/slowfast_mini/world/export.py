"""Write a script as an ordinary video file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from slowfast_mini.world.render import render
from slowfast_mini.world.script import Script

_CHUNK = 30  # frames drawn at once, to bound the memory


def write_video(script: Script, path: str | Path, fps: int = 30, size: int = 384) -> None:
    """Encode the clip as H.264 at ``fps`` frames per second and ``size`` x ``size`` pixels.

    ``size`` must be even, as H.264 with 4:2:0 chroma needs.
    """
    if size % 2:
        raise ValueError(f"size must be even for H.264, got {size}")
    times = np.arange(int(script.duration * fps)) / fps
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20"}
        for first in range(0, len(times), _CHUNK):
            for picture in render(script, times[first : first + _CHUNK], size):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
