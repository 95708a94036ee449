"""Frames to `pixel_values_videos`: sampling, resizing, cropping, normalising, without torchvision.

Reading files is the work of `slowfast_mllm.video`; prompts are the work of the processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata

from slowfast_mllm.video import SampledVideo, read_video


class SlowFastVideosKwargs(VideosKwargs, total=False):
    """Sampling arguments beside the common ones: `start` and `end` in seconds, `max_frames`."""

    start: float | None
    end: float | None
    max_frames: int | None


class SlowFastVideoProcessor(VideoProcessorMixin):
    """CLIP preprocessing of sampled frames: shortest edge, centre crop, CLIP statistics.

    The defaults are those of the published 64-frame checkpoint. Call it with one video or a list:
    a path, bytes, an array or tensor (T, H, W, 3) or (T, 3, H, W) uint8, or a list of frames.
    """

    valid_kwargs = SlowFastVideosKwargs
    model_input_names = ["pixel_values_videos", "video_timestamps"]
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

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    @property
    def backend(self) -> str:
        """The name under which transformers files processors that need no torchvision."""
        return "pil"

    def fetch_videos(self, videos: Any, **kwargs: Any) -> Any:
        """Videos are read where they are sampled, so that only the wanted frames are decoded."""
        return videos

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Sample and transform videos.

        Args:
            videos: one video or a list of videos (see the class).
            **kwargs: override any attribute of the processor for this call, among them
                `num_frames` or `fps`, `start`, `end`, `do_sample_frames`, `return_metadata`.

        Returns:
            `pixel_values_videos`: float32 (num_videos, T, 3, H, W), or a list of (T, 3, H, W) where
            lengths differ; `video_timestamps`: float32 (num_videos, T) seconds, or a list of (T,).

        Raises:
            ValueError: an unknown argument, or a video that cannot be read (`VideoError`).
        """
        return_tensors = kwargs.pop("return_tensors", None)
        return_metadata = kwargs.pop("return_metadata", False)
        options = self._options(kwargs)
        sampled = [self._sample(video, options) for video in as_list_of_videos(videos)]
        pixels = [self._transform(video.frames, options) for video in sampled]
        times = [torch.from_numpy(video.timestamps).float() for video in sampled]
        data: dict[str, Any] = {"pixel_values_videos": pixels, "video_timestamps": times}
        if len({p.shape for p in pixels}) == 1:
            data = {name: torch.stack(value) for name, value in data.items()}
        if return_metadata:
            data["video_metadata"] = [_metadata(video) for video in sampled]
        tensor_type = return_tensors if return_tensors != "pt" else None  # they are tensors already
        return BatchFeature(
            data, tensor_type=tensor_type, skip_tensor_conversion=["video_metadata"]
        )

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Attributes of the processor, overridden by the arguments of a call."""
        known = self.valid_kwargs.__annotations__
        unknown = sorted(set(kwargs) - set(known))
        if unknown:
            raise ValueError(
                f"Unknown video argument {unknown[0]!r}; known are {', '.join(sorted(known))}. "
                "Example: processor(text=..., videos='clip.mp4', num_frames=32)."
            )
        given = {name: value for name, value in kwargs.items() if value is not None}
        if "fps" in given and "num_frames" not in given:
            given["num_frames"] = None  # asking for a rate replaces the default count
        options = {name: getattr(self, name, None) for name in known} | given
        return self._standardize_kwargs(**options)

    def _sample(self, video: Any, options: dict[str, Any]) -> SampledVideo:
        wanted = {name: options[name] for name in ("start", "end", "max_frames")}
        if options["do_sample_frames"]:
            wanted |= {"num_frames": options["num_frames"], "fps": options["fps"]}
        return read_video(_frames_last(video), **wanted)

    def _transform(self, frames: np.ndarray, options: dict[str, Any]) -> Tensor:
        """uint8 (T, H, W, 3) -> float32 (T, 3, H, W), a frame at a time to bound memory."""
        return torch.stack([self._transform_frame(frame, options) for frame in frames])

    def _transform_frame(self, frame: np.ndarray, options: dict[str, Any]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
        if options["do_resize"]:
            pixels = resize_shortest_edge(pixels, options["size"])
        if options["do_center_crop"]:
            crop = options["crop_size"]
            pixels = centre_crop(pixels, crop["height"], crop["width"])
        values = pixels[0].float()
        if options["do_rescale"]:
            values = values * options["rescale_factor"]
        if options["do_normalize"]:
            mean, std = torch.tensor(options["image_mean"]), torch.tensor(options["image_std"])
            values = (values - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        return values


def resize_shortest_edge(pixels: Tensor, size: Any) -> Tensor:
    """Antialiased bicubic on uint8 (N, 3, H, W): the fast path of torch, equal to Pillow within 2.

    `size` holds `shortest_edge`, or `height` and `width`.
    """
    height, width = pixels.shape[-2:]
    if size["shortest_edge"]:
        short = size["shortest_edge"]
        scale = short / min(height, width)
        target = (
            (short, int(short * width / height))
            if height <= width
            else (int(short * height / width), short)
        )
        if scale == 1:
            return pixels
    else:
        target = (size["height"], size["width"])
    return F.interpolate(pixels, target, mode="bicubic", antialias=True)


def centre_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of (N, 3, H, W); a smaller picture gets a black border."""
    missing = (max(height - pixels.shape[-2], 0), max(width - pixels.shape[-1], 0))
    if any(missing):
        pad_y, pad_x = missing
        pixels = F.pad(pixels, (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2))
    top = (pixels.shape[-2] - height) // 2
    left = (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def as_list_of_videos(videos: Any) -> list[Any]:
    """One video or (nested) lists of videos to a flat list of videos.

    A list of pictures is one video; a 5-d array is a batch; everything else is a video.
    """
    if getattr(videos, "ndim", 0) == 5:
        return list(videos)
    if not isinstance(videos, Sequence) or isinstance(videos, str | bytes):
        return [videos]
    if videos and all(_is_picture(item) for item in videos):
        return [videos]
    return [video for item in videos for video in as_list_of_videos(item)]


def _is_picture(item: Any) -> bool:
    return getattr(item, "ndim", None) == 3 or hasattr(item, "getpixel")


def _frames_last(video: Any) -> Any:
    """Channels-first arrays and tensors to (T, H, W, 3); anything else as it is."""
    if getattr(video, "ndim", 0) != 4:
        return video
    array = video.numpy(force=True) if isinstance(video, Tensor) else np.asarray(video)
    if array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    return array


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
