"""Video input: any local video, picture or array -> sampled RGB frames with real time stamps.

`read_video` samples frames, `walk_video` looks at each, `hear_video` says where there is sound,
`probe_video` tells the facts, `declared` what a file says of itself; all raise `VideoError` with
one line.
Resizing and normalising for a model is the processor's work; it may hand in a `Transform`.
"""

from slowfast_mllm.video.picture import Transform, resizing
from slowfast_mllm.video.result import SampledVideo, VideoError, VideoInfo
from slowfast_mllm.video.sampling import fps_indices, uniform_indices
from slowfast_mllm.video.sources import (
    declared,
    hear_video,
    probe_video,
    read_video,
    walk_video,
)

__all__ = [
    "SampledVideo",
    "Transform",
    "VideoError",
    "VideoInfo",
    "declared",
    "fps_indices",
    "hear_video",
    "probe_video",
    "read_video",
    "resizing",
    "uniform_indices",
    "walk_video",
]
