"""Everything that counts as a video, turned into frames: `read_video` and `probe_video`.

Files and bytes are told apart by their content, not by their name: still pictures, animated WebP
or PNG and zips of pictures go to Pillow, the rest to FFmpeg. Names are local names: `http://...` or
`concat:...` are looked for on disk, and nothing is ever fetched.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from av import time_base
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.video.archive import is_zip, open_zip
from slowfast_mllm.video.jpeg import Behind, look_behind
from slowfast_mllm.video.media import Media, open_video
from slowfast_mllm.video.names import data_of, is_named, localized, printable, short_name
from slowfast_mllm.video.picture import UNCHANGED, Picture, Transform
from slowfast_mllm.video.pillow import HEAD_BYTES, is_picture, open_image
from slowfast_mllm.video.reader import probe_file, read_file, walk_file
from slowfast_mllm.video.result import SampledVideo, VideoError, VideoInfo
from slowfast_mllm.video.sampling import SampleRequest, require_positive
from slowfast_mllm.video.sound import heard
from slowfast_mllm.video.stills import (
    Stills,
    has_times,
    open_array,
    open_folder,
    open_list,
    open_picture,
)

_MAX_STREAM_BYTES = 2 << 30


def probe_video(source: Any, *, frames_fps: float | None = None, clip: bool = False) -> VideoInfo:
    """Facts about a video without keeping its frames.

    Small files (about a second's worth of decoding), and all that are not clean mp4, mkv, webm
    or avi, are decoded to count what really comes out; large clean ones are counted by their
    packets.

    Args:
        source: As for `read_video`.
        frames_fps, clip: As for `read_video`.

    Raises:
        VideoError: The source cannot be read; one line that names it.
    """
    opened = _open(source, frames_fps, clip)
    info = probe_file(opened) if isinstance(opened, Media) else opened.probe()
    return _with_path(info, source)


def read_video(
    source: Any,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    at: Sequence[float] | None = None,
    frames_fps: float | None = None,
    clip: bool = False,
    transform: Transform = UNCHANGED,
) -> SampledVideo:
    """Sampled frames of a video with their real time stamps.

    Without `num_frames` and `fps` all frames are given (`max_frames` of them, uniformly, where
    there are more). Rotation and sample aspect ratio are applied. Alpha is dropped: transparent
    pixels have the colour stored beneath, white where a GIF stores none. Frames of interlaced
    video are not split. A picture whose size differs from the first is fitted into it, with black
    borders where its aspect differs, too. Crops that the container asks for are applied, and of
    stereo pictures the left eye's is taken. HDR is tone-mapped, profiles of still pictures are
    followed, and what else a video tells of its colours is obeyed but for its primaries. Broken
    pictures of a set are left out. The best video stream is taken, never cover art; edit lists are
    obeyed and loop flags are not. Damaged files give what can be decoded, and warnings.

    Args:
        source: A local path or `file:` URI (video, still picture, folder or zip of pictures
            sorted by name with numbers by value), bytes, a base64 `data:` URI or a binary file
            object of such a file, one PIL image, a list of pictures (paths, URIs, bytes, PIL
            images, uint8 arrays), or a uint8 array or tensor (T, H, W, 3). Frames may also follow
            one another in one `data:video/jpeg;base64,<first>,<second>`.
        num_frames: Frames spread uniformly: `linspace(0, n-1, num_frames)` truncated, over the
            n frames within the bounds; fewer frames are all given and the last is repeated.
        fps: The frame on screen at each tick 0, 1/fps, ... from the first frame on.
        max_frames: Upper limit for the number of frames.
        start: Seconds on a player's clock, that of the times (see `SampledVideo`): where the sound
            starts 2 s before the picture, the first frame is at 2.0. Earlier frames are left out.
        end: Seconds likewise; frames at or after it are left out. Where no frame starts within the
            bounds, the one on screen is given.
        at: Seconds instead of all these: the frame on screen at each, in order.
        frames_fps: How many a second there are of pictures that have no time stamps: a folder, a
            zip, a list, an array. Without it their times are positions, one a second, and a
            warning says so.
        clip: Read the clip inside a motion photo instead of its picture.
        transform: Done to each picture as soon as it is decoded, e.g. shrinking.

    Returns:
        uint8 frames (T, H, W, 3), float64 seconds (T,), int64 positions (T,), and the facts.

    Raises:
        VideoError: The source cannot be read, or `frames_fps` is given for one that has times; one
            line that names it.
        ValueError: Arguments out of range or in conflict.
    """
    request = SampleRequest(num_frames, fps, max_frames, start, end, at)
    opened = _open(source, frames_fps, clip)
    if isinstance(opened, Media):
        video = read_file(opened, request, transform)
    else:
        video = opened.read(request, transform)
    return replace(video, info=_with_path(video.info, source))


def declared(source: Any, *, clip: bool = False) -> tuple[float, int]:
    """What a video says of itself, before any picture of it is decoded; it may be wrong.

    Args:
        source, clip: As for `read_video`.

    Returns:
        Seconds in all (0.0 where it does not say), and pixels of a picture.

    Raises:
        VideoError: The source cannot be opened.
    """
    opened = _open(source, None, clip)
    if isinstance(opened, Stills):
        return opened.duration, opened.size[0] * opened.size[1]
    with open_video(opened) as (container, stream):
        context = stream.codec_context
        return (container.duration or 0) / time_base, context.width * context.height


def walk_video(
    source: Any,
    begin: Callable[[float], Callable[[Picture], None]],
    *,
    frames_fps: float | None = None,
    clip: bool = False,
    transform: Transform = UNCHANGED,
) -> tuple[NDArray[np.float64], VideoInfo]:
    """Look at every frame of a video, however long: none is kept.

    Args:
        source, frames_fps, clip: As for `read_video`.
        begin: Gives the function that is shown each picture in turn, uint8 (H, W, 3). It is told
            the frame rate, 0.0 where that is not known beforehand, and called again where damage
            is met and the video is read anew from its first frame.
        transform: Done to each picture as soon as it is decoded, e.g. shrinking.

    Returns:
        float64 seconds (T,) of the pictures that were shown last, as `SampledVideo` has them, and
        the facts.

    Raises:
        VideoError: As for `read_video`.
    """
    opened = _open(source, frames_fps, clip)
    if isinstance(opened, Media):
        timeline, info = walk_file(opened, begin, transform)
        return timeline.timestamps, _with_path(info, source)
    times, info = opened.walk(begin, transform)
    return times, _with_path(info, source)


def hear_video(
    source: Any, first: float, *, clip: bool = False
) -> list[tuple[float, float]] | None:
    """Where a video's sound track is to be heard: louder than -60 dB, pauses under a second in it.

    Args:
        source, clip: As for `read_video`.
        first: Seconds at which the first frame is shown.

    Returns:
        Seconds from and to; none: the track is silent. None: there is no track.

    Raises:
        VideoError: The source cannot be read, or its sound track cannot be decoded.
    """
    opened = _open(source, None, clip)
    return heard(opened, first) if isinstance(opened, Media) else None


def is_timeless(source: Any) -> bool:
    """Whether `frames_fps` can be stated of a source: pictures without time stamps.

    Raises:
        VideoError: It cannot be read.
    """
    opened = _open_any(localized(source))
    return isinstance(opened, Stills) and opened.timestamps is None


def _with_path(info: VideoInfo, source: Any) -> VideoInfo:
    """With the whole path of a file, which messages may cut."""
    source = localized(source)
    return replace(info, path=printable(os.fsdecode(source))) if is_named(source) else info


def _open(source: Any, frames_fps: float | None, clip: bool) -> Media | Stills:
    require_positive(frames_fps=frames_fps)
    opened = _open_any(localized(source))
    if clip:
        if isinstance(opened, Media) or opened.clip is None:
            raise VideoError(
                f"{opened.name}: holds no clip beside a picture; leave out clip (--clip)"
            )
        opened = opened.clip
    if frames_fps is None:
        return opened
    if isinstance(opened, Media):
        raise has_times(opened.name)
    return opened.at_rate(frames_fps)


def _open_any(source: Any) -> Media | Stills:
    if is_named(source):
        return _open_path(os.fsdecode(source))
    if isinstance(source, str):
        return _open_data(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_bytes(bytes(source), "<bytes>")
    if isinstance(source, Image.Image):
        return open_list([source], "<image>")
    if hasattr(source, "read"):
        return _open_stream(source)
    if isinstance(source, np.ndarray) or hasattr(source, "detach"):
        return open_array(source)
    if isinstance(source, Sequence):
        return open_list(list(source), "<images>")
    raise VideoError(
        f"<{type(source).__name__}>: not a video source; give a path, bytes, a list of pictures "
        "or a uint8 array (T, H, W, 3)"
    )


def _open_path(path: str) -> Media | Stills:
    name = short_name(path) or "''"
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return open_folder(path, name)
        if not stat.S_ISREG(mode):
            raise VideoError(
                f"{name}: a pipe, socket or device, not a regular file; save it to a file first"
            )
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
            behind = look_behind(handle)
    except FileNotFoundError as error:
        remote = re.match(r"[a-zA-Z][a-zA-Z0-9+.,-]+:", path)
        hint = "only local files are read, download it first" if remote else "check the path"
        raise VideoError(f"{name}: no such file; {hint}") from error
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({error.strerror}); check the path") from error
    except ValueError as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{name}: not a file name ({error}); check the path") from error
    if not head:
        raise VideoError(f"{name}: the file is empty; get it again")
    if is_picture(head, path) and not behind.frames:
        return open_picture(lambda: open_image(path, path), name, _clip(name, behind))
    if is_zip(head):
        return open_zip(path, name)
    return Media(name, path=os.path.abspath(path))


def _open_data(uri: str) -> Media | Stills:
    """What a `data:` URI holds; more than one file are the frames of a video."""
    files = data_of(uri)
    name = short_name(uri)
    return _open_bytes(files[0], name) if len(files) == 1 else open_list(list(files), name)


def _open_bytes(data: bytes, name: str) -> Media | Stills:
    if not data:
        raise VideoError(f"{name}: no bytes at all; give the whole file")
    behind = look_behind(io.BytesIO(data))
    if is_picture(data[:HEAD_BYTES], name) and not behind.frames:
        return open_picture(lambda: open_image(io.BytesIO(data), name), name, _clip(name, behind))
    if is_zip(data[:HEAD_BYTES]):
        return open_zip(io.BytesIO(data), name)
    return Media(name, data=data)


def _clip(name: str, behind: Behind) -> Media | None:
    return None if behind.clip is None else Media(name, data=behind.clip)


def _open_stream(source: Any) -> Media | Stills:
    """From the current position; kept in memory, as two threads cannot share one position."""
    given = getattr(source, "name", None)
    name = short_name(given) if isinstance(given, str) else "<stream>"
    data = source.read(_MAX_STREAM_BYTES + 1)
    if not isinstance(data, bytes):
        raise VideoError(f"{name}: gives {type(data).__name__}, not bytes; open it with mode 'rb'")
    if len(data) > _MAX_STREAM_BYTES:
        limit = _MAX_STREAM_BYTES >> 30
        raise VideoError(f"{name}: a stream of more than {limit} GiB; save it and give its path")
    return _open_bytes(data, name)
