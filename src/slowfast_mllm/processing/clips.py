"""A video with the frames that its own part of a message asks for."""

import reprlib
from collections.abc import Mapping
from typing import Any

from slowfast_mllm.video import SampledVideo
from slowfast_mllm.video.sampling import SampleRequest, require_positive

# Keys of a part, and the arguments of `read_video` that they are.
SAMPLING = {
    "video_start": "start",
    "video_end": "end",
    "fps": "fps",
    "num_frames": "num_frames",
    "nframes": "num_frames",
    "max_frames": "max_frames",
    "frames_fps": "frames_fps",
    "clip": "clip",
}
# Those that say how a source is opened, not which of its frames are taken.
READING = ("frames_fps", "clip")


class Clip:
    """A video and arguments of `read_video` that go before those of a call.

    No dataclass: transformers makes dicts of those that it finds in messages.

    Attributes:
        source: as `read_video` takes it.
        sampling: `start`, `end`, `num_frames` or `fps`, `max_frames`, `frames_fps`, `clip`.
    """

    def __init__(self, source: Any, sampling: dict[str, Any]) -> None:
        self.source = source
        self.sampling = sampling


def sampling_of(part: Mapping[str, Any], source: Any) -> dict[str, Any]:
    """What a part says about the frames of its video.

    Args:
        part: with any keys of `SAMPLING`; None is as good as absent.
        source: the video; `fps` is the rate of the frames where it is a list of them.

    Returns:
        Arguments of `read_video`, only those that are given.

    Raises:
        ValueError: they are out of range or in conflict.
    """
    found: dict[str, Any] = {}
    for key, argument in SAMPLING.items():
        if part.get(key) is None:
            continue
        if argument in found:
            raise ValueError(f"{key}: beside another number of frames; leave out one of them")
        found[argument] = part[key]
    if isinstance(source, SampledVideo) and found:
        raise ValueError(f"{next(iter(found))}: of a video that is sampled already; leave it out")
    if isinstance(source, list | tuple) and "fps" in found:
        if "frames_fps" in found:
            raise ValueError("fps: beside frames_fps; of a list of frames both are their rate")
        found["frames_fps"] = found.pop("fps")
    SampleRequest(**{name: value for name, value in found.items() if name not in READING})
    require_positive(frames_fps=found.get("frames_fps"))
    if not isinstance(found.get("clip", False), bool):
        raise ValueError(f"clip={reprlib.repr(found['clip'])}: give true or false")
    return found
