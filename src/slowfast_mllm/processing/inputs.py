"""What a caller may call a video or an image, brought into one form. Nothing is resized here."""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from slowfast_mllm.processing.fetch import FAILURES, fetched
from slowfast_mllm.video import VideoError, read_video
from slowfast_mllm.video.names import is_data_uri, localized, short_name
from slowfast_mllm.video.pillow import is_frame_name

_CHANNELS = (1, 3, 4)
# Nesting of a batch: rows of prompts, then the videos of a row. A list below that is frames.
_DEPTH_OF_FRAMES = 2


def list_videos(videos: Any, wanted: int | None = None) -> list[Any]:
    """One video, or lists of videos nested per prompt, to a flat list of videos.

    A list of pictures (PIL images, arrays, or paths of still pictures) is one video; an array of
    five dimensions is a batch; anything else that is no list is one video. Where that does not
    make the `wanted` number, paths of pictures are a video each (WebP and PNG may be animations).
    """
    found = _flat(videos, 0, True)
    if wanted is not None and len(found) != wanted:
        each = _flat(videos, 0, False)
        return each if len(each) == wanted else found
    return found


def _flat(videos: Any, depth: int, frames: bool) -> list[Any]:
    """`frames`: whether files that are called as pictures are those of one video."""
    if getattr(videos, "ndim", 0) == 5:
        return list(videos)
    if not isinstance(videos, Sequence) or isinstance(videos, str | bytes | bytearray | memoryview):
        return [] if videos is None else [videos]
    if len(videos) == 1 and isinstance(videos[0], str | os.PathLike):
        return list(videos)  # the same for a still picture, and all of an animation
    if videos and all(_is_frame(item, depth, frames) for item in videos):
        return [list(videos)]
    return [video for item in videos for video in _flat(item, depth + 1, frames)]


def _is_frame(item: Any, depth: int, frames: bool) -> bool:
    if depth >= _DEPTH_OF_FRAMES and (
        isinstance(item, str | os.PathLike | bytes | bytearray) or hasattr(item, "read")
    ):
        return True
    if isinstance(item, str | os.PathLike):
        return frames and is_frame_file(os.fspath(item))
    return hasattr(item, "getpixel") or _is_one_picture(item)


def is_frame_file(name: str) -> bool:
    """Whether a file is called, or a `data:` URI says, a picture; a GIF is rather a clip."""
    if is_data_uri(name):
        return re.match("data:image/(?!gif)", name, re.IGNORECASE) is not None
    return is_frame_name(name) and not name.lower().endswith(".gif")


def _is_one_picture(array: Any) -> bool:
    """Whether an array or tensor is one picture; of three dimensions it may be a grey video."""
    dimensions = getattr(array, "ndim", 0)
    return dimensions == 2 or (
        dimensions == 3 and (array.shape[-1] in _CHANNELS or array.shape[0] in _CHANNELS)
    )


def list_images(images: Any) -> list[Any]:
    """One image, or nested lists of images, to a flat list of images."""
    if getattr(images, "ndim", 0) == 4:
        return list(images)
    if not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray | memoryview):
        return [] if images is None else [images]
    return [image for item in images for image in list_images(item)]


def with_channels_last(video: Any, channels: str | None = None) -> Any:
    """Arrays, tensors and lists of them in a form that the reader takes; anything else as it is.

    Args:
        video: (T, H, W, C) or (T, C, H, W), a picture (H, W, C) or (C, H, W), or grey (T, H, W) or
            (H, W). C is 1, 3 or 4.
        channels: "channels_first" or "channels_last"; None: last, unless only first can be.

    Returns:
        (T, H, W, 3), or a list of pictures with channels last.
    """
    if isinstance(video, list | tuple):
        return [
            with_channels_last(item, channels)[0] if hasattr(item, "ndim") else item
            for item in video
        ]
    if getattr(video, "ndim", 0) not in (2, 3, 4):
        return video
    array = video.numpy(force=True) if isinstance(video, Tensor) else np.asarray(video)
    array = _with_channels_last(array, channels)
    # The reader takes grey and transparent pictures in lists.
    return list(array) if array.shape[-1] in (1, 4) and len(array) else array


def _with_channels_last(array: np.ndarray, channels: str | None) -> np.ndarray:
    """(T, H, W, C) from any of the shapes that `with_channels_last` takes."""
    if array.ndim == 2:
        return array[None, ..., None]
    if array.ndim == 3:
        array = array[None] if _is_one_picture(array) else array[..., None]
    first_possible, last_possible = array.shape[1] in _CHANNELS, array.shape[-1] in _CHANNELS
    first = first_possible and not last_possible
    if channels is not None:
        first = str(getattr(channels, "value", channels)).lower() in ("first", "channels_first")
    return np.moveaxis(array, 1, -1) if first else array


def rgb_picture(image: Any, channels: str | None = None) -> np.ndarray:
    """An image of any kind to uint8 (H, W, 3), upright.

    Args:
        image: path, bytes, PIL image, array, tensor, `http:`, `file:` or `data:` URL, or base64.
        channels: as for `with_channels_last`.

    Raises:
        VideoError: it cannot be read; one line that names it.
    """
    image = localized(image)
    if isinstance(image, str) and not is_data_uri(image) and not os.path.exists(image):
        try:
            return read_video(fetched(image), num_frames=1).frames[0]
        except FAILURES as error:
            raise VideoError(
                f"{short_name(image)}: no such image file, and not a URL or base64 text that can "
                "be loaded; check the path, for example images='photo.jpg'"
            ) from error
    return read_video(with_channels_last(image, channels), num_frames=1).frames[0]
