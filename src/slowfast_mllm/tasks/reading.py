"""A video that is read once, densely, and looked at stretch by stretch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image

from slowfast_mllm.engine import Assistant, Encoded, Sampling
from slowfast_mllm.engine.frame_choice import (
    AUTO,
    FrameChoice,
    Room,
    choose_num_frames,
    kept_source,
    settings_of,
)
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.video import SampledVideo, VideoError, resizing
from slowfast_mllm.video.names import is_named, short_name

DENSE_FPS, DENSE_FRAMES = 8.0, 256  # frames a second that are read where nobody says, and in all
_SIDE = 448  # pixels of the shorter side of what is kept; models look at no more, or little
# Where the number of frames is left to us: only their pictures are held.
_ROOM = Room(8, 3 * 2 * _SIDE**2, 0.0, torch.device("cpu"), None)


@dataclass(frozen=True)
class Reading:
    """Frames of a video, to be looked at in parts.

    Attributes:
        video: distinct frames, in order.
        end: seconds at which the last of them ends.
        sampling: fields of `Sampling` that were given.
        choice: why so many frames were read, where that was left to us.
    """

    assistant: Assistant
    video: SampledVideo
    end: float
    sampling: dict[str, Any]
    choice: FrameChoice | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """For `Result.settings`."""
        return self.sampling | settings_of(self.choice)

    def __len__(self) -> int:
        return len(self.video.frames)

    def time(self, frame: int) -> float:
        """Its seconds; behind the last, those of the end."""
        return float(self.video.timestamps[frame]) if frame < len(self) else self.end

    def encode(self, first: int, last: int) -> Encoded:
        """The frames from `first` to before `last`, as a video by itself."""
        seconds = self.time(last) - self.time(first)
        fit = {"fit": self.sampling["fit"]} if "fit" in self.sampling else {}
        return self.assistant.encode(
            self.video.frames[first:last],
            num_frames=last - first,
            frames_fps=(last - first) / seconds if seconds > 0 else 1.0,
            **fit,
        )

    def parts(self, size: float) -> Iterator[tuple[int, int]]:
        """First frames, and those behind the last, of parts of about so many frames."""
        bounds = np.linspace(0, len(self), min(len(self), max(1, round(len(self) / size))) + 1)
        yield from pairwise(bounds.round().astype(int).tolist())


def read_densely(assistant: Assistant, video: Any, **sampling: Any) -> Reading:
    """Read a video to be looked at in parts.

    Args:
        video: anything that `read_video` takes.
        **sampling: fields of `Sampling`; where neither `num_frames` nor `fps` are given, 8 frames
            a second are read, at most 256.

    Raises:
        VideoError: it cannot be read, or is a memory.
        ValueError: an argument is wrong.
    """
    if is_named(video) and str(video).endswith(SUFFIX):
        raise VideoError(
            f"{short_name(str(video))}: a memory holds no frames to choose among; name the video."
        )
    given = {name: value for name, value in sampling.items() if value is not None}
    choice, asked = None, Sampling(**given)
    if asked.num_frames == AUTO:
        video = kept_source(video)
        choice = choose_num_frames(video, _ROOM, assistant.reader, **asked.part())
    wanted = {name: value for name, value in given.items() if name != "fit"}
    if choice is not None:
        wanted["num_frames"] = choice.num_frames
    if not {"num_frames", "at"} & wanted.keys():
        most = Sampling.max_frames if "fps" in wanted else DENSE_FRAMES
        wanted = {"fps": DENSE_FPS, "max_frames": most, **wanted}
    shrink = resizing(_shape, Image.Resampling.BICUBIC)
    read = assistant.reader.read_video(video, **wanted, transform=shrink)
    rows = np.unique(read.frame_indices, return_index=True)[1]  # what a short clip repeats
    seen = SampledVideo(
        read.frames[rows], read.timestamps[rows], read.frame_indices[rows], read.info
    )
    end = min(seen.info.duration, given.get("end", np.inf))
    return Reading(assistant, seen, max(end, float(seen.timestamps[-1])), given, choice)


def _shape(height: int, width: int) -> tuple[int, int]:
    factor = min(1.0, _SIDE / min(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
