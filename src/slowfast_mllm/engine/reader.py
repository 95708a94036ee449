"""Who reads videos for a model: this process, unless somebody says otherwise."""

from collections.abc import Callable
from dataclasses import dataclass

from slowfast_mllm.video import SampledVideo, VideoInfo, probe_video, read_video


@dataclass(frozen=True)
class Reader:
    """Functions as those of `slowfast_mllm.video`; a server has other processes do it."""

    read_video: Callable[..., SampledVideo] = read_video
    probe_video: Callable[..., VideoInfo] = probe_video
