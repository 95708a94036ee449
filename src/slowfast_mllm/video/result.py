"""What reading a video gives back: the error, the facts about a clip, and its sampled frames.

Only data lives here; nothing in this file opens or decodes anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A source that cannot be read. One line: which source, the cause, and what to do."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a whole clip.

    Attributes:
        path: The path as given, or `<bytes>`, `<array>`, `<images>` for sources without one.
        num_frames: Frames that are presented, each once: hidden ones (edit lists) and
            undecodable ones are not counted, loop flags are not followed.
        duration: Seconds on the clip's clock (see `SampledVideo`) up to the end of the last frame.
        fps: Average frame rate while frames are shown: `num_frames` by the seconds from the start
            of the first to the end of the last (0.0 where unknown).
        width: Pixels as shown, after rotation and sample aspect ratio.
        height: Pixels as shown, after rotation and sample aspect ratio.
        codec: FFmpeg's name of the coding format (`h264`, `av1`), Pillow's for still pictures,
            `raw` for arrays.
        rotation: Clockwise turn in degrees (0, 90, 180, 270) that was applied to the stored
            picture to show it upright.
        has_audio: Whether the file holds at least one audio stream.
        colour_primaries: Of the coded pictures, in ffprobe's names (`bt709`, `bt2020`), as the
            other three; None for still pictures and arrays, which are taken as sRGB.
        colour_transfer: How light is coded (`bt709`, `smpte2084`, `arib-std-b67`).
        colour_matrix: How luma and chroma are made of red, green and blue (`smpte170m`).
        colour_range: `limited` or `full`.
        colour_assumed: Which of these four the file does not tell, so that what stands here was
            assumed: `primaries`, `transfer`, `matrix`, `range`.
        warnings: One line each: what is damaged, missing or was assumed.
    """

    path: str
    num_frames: int
    duration: float
    fps: float
    width: int
    height: int
    codec: str
    rotation: int = 0
    has_audio: bool = False
    colour_primaries: str | None = None
    colour_transfer: str | None = None
    colour_matrix: str | None = None
    colour_range: str | None = None
    colour_assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types (tuples as lists)."""
        lists = {"colour_assumed": list(self.colour_assumed), "warnings": list(self.warnings)}
        return asdict(self) | lists

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> VideoInfo:
        """What `to_dict` gave."""
        lists = {name: tuple(value) for name, value in facts.items() if isinstance(value, list)}
        return cls(**facts | lists)


@dataclass(frozen=True, eq=False)
class SampledVideo:
    """Frames chosen from a clip.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB, upright.
        timestamps: float64 (T,), seconds on the clock of a player: 0.0 is where the earliest of
            the file's audio and video streams starts, which is the first frame unless the sound
            starts more than 0.05 s before the picture (less is silence that its encoder put in
            front). Cover pictures, subtitles and data count for nothing, and so do times of day:
            a recording whose stamps begin at 10 s begins at 0.0.
        frame_indices: int64 (T,), position in presentation order in the whole source.
        info: The facts about the whole source.
    """

    frames: NDArray[np.uint8]
    timestamps: NDArray[np.float64]
    frame_indices: NDArray[np.int64]
    info: VideoInfo

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of `info`."""
        return self.info.warnings
