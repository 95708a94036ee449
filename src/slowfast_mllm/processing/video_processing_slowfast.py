"""Frames to `pixel_values_videos`: sampling, fitting, normalising, without torchvision.

Reading files is the work of `slowfast_mllm.video`; prompts are the work of the processor.
"""

import logging
import os
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from torch import Tensor
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata

from slowfast_mllm.processing.arguments import argument_errors, check_known
from slowfast_mllm.processing.clips import READING, Clip
from slowfast_mllm.processing.fetch import at_hand
from slowfast_mllm.processing.inputs import list_videos, with_channels_last
from slowfast_mllm.processing.pixels import (
    affine,
    output_shape,
    outside_crop,
    resize_and_crop,
    resize_whole,
)
from slowfast_mllm.video import SampledVideo, Transform, read_video
from slowfast_mllm.video.fitting import Fit
from slowfast_mllm.video.sampling import SampleRequest
from slowfast_mllm.video.sources import is_timeless

_log = logging.getLogger(__name__)
# Arguments of transformers that have one value here.
_ONLY = {"do_pad": False, "do_convert_rgb": True, "data_format": "channels_first"}

_MUCH = 0.25  # of a picture: 4:3 in a square loses as much, which nobody needs to be told
_RATE_NEEDED = (
    "fps, start and end need the frame rate of frames in memory; give it, for example "
    "video_metadata={'fps': 30, 'total_num_frames': 300}, or take num_frames=32 of them."
)


class SlowFastVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """Arguments beside the common ones: `start` and `end` in seconds, `max_frames`, `fit`."""

    start: float | None
    end: float | None
    max_frames: int | None
    fit: Fit | None


class SlowFastVideoProcessor(VideoProcessorMixin):
    """CLIP preprocessing of sampled frames: shortest edge, centre crop, CLIP statistics.

    The defaults are those of the published 64-frame checkpoint. `fit="pad"` shows all of a picture
    between borders of `image_mean` (zero for the model) instead of its middle, `fit="squash"` all
    of it without its aspect; images follow it too. Call it with one video or a list:
    a path, an http(s) URL, bytes or base64 text, a list of frames, a uint8 array or tensor
    (T, H, W, C) or (T, C, H, W) with 1, 3 or 4 channels, or what `slowfast_mllm.video.read_video`
    returned (then nothing is sampled).
    """

    valid_kwargs = SlowFastVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "video_timestamps", "video_frame_mask"]
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 576}
    crop_size = {"height": 576, "width": 576}
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    num_frames: int | None = 64
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    max_frames: int | None = None
    fit: Fit = "crop"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)
        if kwargs.get("fps") is not None and kwargs.get("num_frames") is None:
            self.num_frames = None  # a rate by default replaces the count by default

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As of transformers; a rate given now replaces a saved count, and the other way round."""
        return super().from_dict(video_processor_dict, **_without_the_other(kwargs))

    @property
    def backend(self) -> str:
        """The name under which transformers files processors that need no torchvision."""
        return "pil"

    def fetch_videos(self, videos: Any, **kwargs: Any) -> Any:
        """Videos are read where they are sampled, so that only the wanted frames are decoded."""
        return videos

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        fps: float | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Positions that would be sampled from a clip with these facts.

        Args:
            metadata: with `total_num_frames`, and `fps` where times matter.
            num_frames, fps: as for a call; without both, the processor's own.
            **kwargs: `start`, `end`, `max_frames`.

        Returns:
            int64 (T,), sorted.

        Raises:
            ValueError: both are given, or times are needed and `metadata.fps` is missing.
        """
        options = self._options({"num_frames": num_frames, "fps": fps, **kwargs})
        request = _request(options)
        if request.uses_time and not metadata.fps:
            raise ValueError(_RATE_NEEDED)
        times = np.arange(metadata.total_num_frames) / (metadata.fps or 1.0)
        duration = len(times) / (metadata.fps or 1.0)
        return request.indices(times, duration, "<metadata>")

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Sample and transform videos.

        Args:
            videos: one video or a list of videos (see the class).
            **kwargs: override any attribute of the processor for this call, among them
                `num_frames` or `fps`, `start`, `end`, `do_sample_frames`, `return_metadata`.
                `video_metadata` (one for each video, with `fps`) gives times to frames that come
                as an array or list, which `fps`, `start` and `end` need, or as a folder or zip.

        Returns:
            `pixel_values_videos`: float32 (num_videos, T, 3, H, W), or a list of (T, 3, H, W) where
            lengths differ; `video_timestamps`: float32 (num_videos, T) seconds, or a list of (T,);
            `video_frame_mask`: as these, 1 for each frame, so that what others fill up with 0 (a
            pipeline with `batch_size`, say) is not looked at.

        Raises:
            VideoError: a video cannot be read.
            ValueError: an unknown argument, or one out of range.
        """
        return self.preprocess_list(list_videos(videos), **kwargs)

    def preprocess_list(self, sources: list[Any], **kwargs: Any) -> BatchFeature:
        """As `preprocess`, of a list of which each item is known to be one video."""
        return_tensors = kwargs.pop("return_tensors", None)
        options = self._options(kwargs)
        facts = _list_metadata(options["video_metadata"], len(sources))
        sampled = [
            self._sample(video, fact, options) for video, fact in zip(sources, facts, strict=True)
        ]
        pixels = [_normalise(video.frames, options) for video in sampled]
        times = [torch.from_numpy(video.timestamps).float() for video in sampled]
        data: dict[str, Any] = {
            "pixel_values_videos": pixels,
            "video_timestamps": times,
            "video_frame_mask": [torch.ones(len(t), dtype=torch.long) for t in times],
        }
        ragged = len({p.shape for p in pixels}) != 1
        if not ragged:
            data = {
                name: value[0][None] if len(value) == 1 else torch.stack(value)
                for name, value in data.items()
            }
        skipped = [*(data if ragged else []), "video_metadata"]
        if options["return_metadata"]:
            data["video_metadata"] = [_metadata(video) for video in sampled]
        return BatchFeature(data, tensor_type=return_tensors, skip_tensor_conversion=skipped)

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Attributes of the processor, overridden by the arguments of a call."""
        known = self.valid_kwargs.__annotations__
        check_known(kwargs, known)
        with argument_errors():
            validate_typed_dict(self.valid_kwargs, kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        given = _without_the_other(given)
        for name, only in _ONLY.items():
            if given.get(name, only) != only:
                raise ValueError(f"{name}={given[name]}: videos of this model have {name}={only}.")
        options = {name: getattr(self, name, None) for name in known} | given
        return self._standardize_kwargs(**options)

    def _sample(
        self, video: Any, metadata: VideoMetadata | None, options: dict[str, Any]
    ) -> SampledVideo:
        transform = _transform(options)
        reading: dict[str, Any] = {}
        if isinstance(video, Clip):
            reading, options, video = _as_its_part_says(video, options)
        own = reading.get("frames_fps")
        if isinstance(video, SampledVideo):
            return _shrunk(video, transform)
        in_memory = isinstance(video, list | tuple) or hasattr(video, "ndim")
        video = with_channels_last(at_hand(video), options["input_data_format"])
        request = _request(options)
        rate = own or (metadata.fps if metadata is not None else None)
        if in_memory and request.uses_time and not rate:
            raise ValueError(_RATE_NEEDED)
        if in_memory and metadata is not None and rate and own is None:
            frames = read_video(video, **{**reading, "frames_fps": rate})
            sampled = _shrunk(_sample_timed(frames, metadata, request), transform)
        else:
            if own is None and not (rate and _is_timeless_file(video)):
                rate = None
            reading["frames_fps"] = rate
            sampled = read_video(video, **vars(request), **reading, transform=transform)
        for warning in sampled.warnings:
            _log.warning("%s: %s", sampled.info.path, warning)
        for warning in _crop_warnings(sampled.info.height, sampled.info.width, options):
            _warn_once(warning)
        return sampled

    def frame_transform(self, **kwargs: Any) -> Transform:
        """Resizing and cropping, for `read_video`.

        Args:
            **kwargs: as for `preprocess`.
        """
        return _transform(self._options(kwargs))

    def crop_warnings(self, height: int, width: int, **kwargs: Any) -> list[str]:
        """A line where more than a quarter of pictures of this size is not looked at.

        Args:
            **kwargs: as for `preprocess`.
        """
        return _crop_warnings(height, width, self._options(kwargs))

    def normalise(self, frames: np.ndarray, **kwargs: Any) -> Tensor:
        """Frames that `frame_transform` was applied to, as the model wants them.

        Args:
            frames: uint8 (T, h, w, 3).
            **kwargs: as for `preprocess`.

        Returns:
            float32 (T, 3, h, w).
        """
        return _normalise(frames, self._options(kwargs))


def _crop_warnings(height: int, width: int, options: dict[str, Any]) -> list[str]:
    if not (options["fit"] == "crop" and options["do_resize"] and options["do_center_crop"]):
        return []
    outside = outside_crop(height, width, options["size"], options["crop_size"])
    if outside <= _MUCH:
        return []
    where = "left and right" if width > height else "above and below"
    return [
        f"{outside:.0%} of the picture, {where}, is outside the centre crop; "
        "fit='pad' (--fit pad) shows all of it"
    ]


@cache
def _warn_once(line: str) -> None:
    """Of what a clip shares with most others of its set."""
    _log.warning(line)


def _is_timeless_file(video: Any) -> bool:
    return isinstance(video, str | os.PathLike | bytes) and is_timeless(video)


def _as_its_part_says(
    clip: Clip, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """How it is opened, the options of a call overridden by the clip's, and its source."""
    reading = {name: value for name, value in clip.sampling.items() if name in READING}
    given = {name: value for name, value in clip.sampling.items() if name not in READING}
    if "fps" in given or "num_frames" in given:
        given = {**_without_the_other(given), "do_sample_frames": True}
    return reading, {**options, **given}, clip.source


def _without_the_other(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments in which a rate puts the count off that holds without it, and vice versa."""
    for one, other in (("fps", "num_frames"), ("num_frames", "fps")):
        if given.get(one) is not None and given.get(other) is None:
            return {**given, other: None}
    return given


def _shrunk(video: SampledVideo, transform: Transform) -> SampledVideo:
    """What `read_video` would have given with this transform."""
    shape = transform.shape(*video.frames.shape[1:3])
    frames = np.empty((len(video.frames), *shape, 3), np.uint8)
    for i, frame in enumerate(video.frames):
        # A short clip repeats its last frame.
        repeated = i and video.frame_indices[i] == video.frame_indices[i - 1]
        frames[i] = frames[i - 1] if repeated else transform.apply(frame)
    return replace(video, frames=frames)


def _normalise(frames: np.ndarray, options: dict[str, Any]) -> Tensor:
    factor, offset = affine(
        options["rescale_factor"] if options["do_rescale"] else None,
        options["image_mean"] if options["do_normalize"] else None,
        options["image_std"] if options["do_normalize"] else None,
    )
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    result = torch.empty(pixels.shape, device=options["device"])
    return result.copy_(pixels).mul_(factor.to(result.device)).sub_(offset.to(result.device))


def _transform(options: dict[str, Any]) -> Transform:
    size = options["size"] if options["do_resize"] else None
    crop = options["crop_size"] if options["do_center_crop"] else None
    fit: Fit = options["fit"] if size and crop else "crop"

    size, crop = (edges and {**_NO_EDGES, **dict(edges)} for edges in (size, crop))
    how = (size, crop, fit, options["image_mean"], options["resample"])
    return Transform(partial(_shape, size, crop), partial(_apply, *how))


_NO_EDGES = dict.fromkeys(("shortest_edge", "longest_edge", "height", "width"))


# Not within `_transform`: they are handed to other processes.
def _shape(size: Any, crop: Any, height: int, width: int) -> tuple[int, int]:
    return output_shape(height, width, size, crop)


def _apply(
    size: Any, crop: Any, fit: Fit, border: Any, resample: int, picture: np.ndarray
) -> np.ndarray:
    if fit == "crop":
        pixels = resize_and_crop(picture, size, crop, resample)
    else:
        pixels = resize_whole(picture, crop, fit, border, resample)
    return pixels.permute(1, 2, 0).numpy()


def _request(options: dict[str, Any]) -> SampleRequest:
    names = ["start", "end", "max_frames"]
    if options["do_sample_frames"]:
        names += ["num_frames", "fps"]
    return SampleRequest(**{name: options[name] for name in names})


def _sample_timed(
    video: SampledVideo, metadata: VideoMetadata, request: SampleRequest
) -> SampledVideo:
    """Sample frames in memory by the times that their metadata gives them."""
    positions = metadata.frames_indices
    indices = np.arange(len(video.frames)) if positions is None else np.asarray(positions, np.int64)
    if len(indices) != len(video.frames):
        raise ValueError(
            f"video_metadata: frames_indices names {len(indices)} frames, but the video has "
            f"{len(video.frames)}; leave it out, for example video_metadata={{'fps': 30}}."
        )
    times = indices / metadata.fps
    duration = metadata.duration or float(times[-1]) + 1 / metadata.fps
    chosen = request.indices(times, duration, video.info.path)
    info = replace(
        video.info,
        fps=metadata.fps,
        duration=duration,
        num_frames=metadata.total_num_frames or len(video.frames),
    )
    return SampledVideo(video.frames[chosen], times[chosen], indices[chosen], info)


def _list_metadata(metadata: Any, num_videos: int) -> list[VideoMetadata | None]:
    """Metadata as transformers allows it (single, list, nested lists) to one for each video."""
    if metadata is None:
        return [None] * num_videos
    flat: list[VideoMetadata | None] = []
    for item in metadata if isinstance(metadata, list) else [metadata]:
        if isinstance(item, list):
            flat.extend(_list_metadata(item, len(item)))
        elif isinstance(item, dict):
            flat.append(VideoMetadata(**{"total_num_frames": 0, **item}))
        else:
            flat.append(item)
    if len(flat) != num_videos:
        raise ValueError(
            f"video_metadata: {len(flat)} given for {num_videos} videos; give one for each, for "
            "example video_metadata=[{'fps': 30}, {'fps': 25}]."
        )
    return flat


def _metadata(video: SampledVideo) -> VideoMetadata:
    info = video.info
    return VideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.fps or None,
        width=info.width,
        height=info.height,
        duration=info.duration,
        video_backend="pyav",
        frames_indices=video.frame_indices.tolist(),
    )
