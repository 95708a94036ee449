"""Still pictures as video: single ones, animations that Pillow reads, folders, lists, arrays.

EXIF orientation is applied and alpha is dropped: colours are those stored beneath. Pictures of a
set are scaled to the size of its first one. Video files are not opened here.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from slowfast_mllm.video.names import data_of, is_named, localized, short_name
from slowfast_mllm.video.picture import UNCHANGED, Picture, Transform, allocate, check_size
from slowfast_mllm.video.result import SampledVideo, VideoError, VideoInfo
from slowfast_mllm.video.sampling import SampleRequest

# Pictures that carry no time of their own are taken as one a second.
_NOMINAL_FPS = 1.0
_TIMELESS = (
    f"pictures without time stamps: their times are positions, {_NOMINAL_FPS:g} a second; state "
    "their rate (frames_fps, --frames-fps, or video_metadata)"
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
# Pillow opens no other kind, whatever a file is called: for some it would start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNS = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}


@dataclass(frozen=True)
class Stills:
    """Pictures that can be reached one by one.

    Attributes:
        name: What messages call the source.
        count: Number of pictures, at least 1.
        size: (width, height) of the first one, upright.
        load: Sorted positions -> their uint8 (H, W, 3) pictures, one after the other.
        codec: Name of the coding format.
        timestamps: float64 (count,), seconds, or None where the pictures have no time.
        duration: Seconds in all, where they have.
        rotation: Clockwise degrees that `load` applies.
    """

    name: str
    count: int
    size: tuple[int, int]
    load: Callable[[Iterable[int]], Iterator[Picture]]
    codec: str
    timestamps: NDArray[np.float64] | None = None
    duration: float = 0.0
    rotation: int = 0

    def info(self) -> VideoInfo:
        """The facts."""
        duration = self.duration if self.timestamps is not None else self.count / _NOMINAL_FPS
        return VideoInfo(
            path=self.name,
            num_frames=self.count,
            duration=duration,
            fps=self.count / duration if duration > 0 else 0.0,
            width=self.size[0],
            height=self.size[1],
            codec=self.codec,
            rotation=self.rotation,
            warnings=() if self.timestamps is not None else (_TIMELESS,),
        )

    def at_rate(self, frames_fps: float) -> Stills:
        """The same, `frames_fps` a second.

        Raises:
            VideoError: They have times already.
        """
        if self.timestamps is not None and self.count > 1:
            raise has_times(self.name)
        times = np.arange(self.count) / frames_fps
        return replace(self, timestamps=times, duration=self.count / frames_fps)

    def read(self, request: SampleRequest, transform: Transform = UNCHANGED) -> SampledVideo:
        """The pictures that `request` chooses.

        Raises:
            VideoError: One of them cannot be decoded, none lies within the bounds, or too large.
        """
        info = self.info()
        times = self.timestamps
        if times is None:
            times = np.arange(self.count, dtype=np.float64) / _NOMINAL_FPS
        chosen = request.indices(times, info.duration, self.name)
        wanted, rows = np.unique(chosen, return_inverse=True)
        frames = allocate(chosen.size, transform.size(self.size), self.name)[: wanted.size]
        for row, picture in enumerate(self.load(wanted.tolist())):
            frames[row] = transform.apply(_fitted(picture, self.size))
        repeated = frames if rows.size == wanted.size else frames[rows]
        return SampledVideo(repeated, times[chosen], chosen, info)


def has_times(name: str) -> VideoError:
    """What refuses a rate for a clip that needs none."""
    return VideoError(
        f"{name}: has times of its own; leave out frames_fps (--frames-fps), which is the rate of "
        "a folder or list of frames"
    )


def is_picture(head: bytes) -> bool:
    """Whether a file whose first 16 bytes are `head` is a picture for Pillow."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return webp or avif or head.startswith(_HEADS)


def open_picture(opener: Callable[[], Image.Image], name: str) -> Stills:
    """A still picture or an animation; `opener` opens it afresh each time.

    Raises:
        VideoError: It cannot be decoded, or is too large.
    """
    with _pillow_errors(name), opener() as image:
        check_size(*image.size, name)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        # What follows the first picture of an MPO is its preview, or what the other eye sees.
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        codec = (image.format or "image").lower()
        starts, duration = [0.0], 0.0
        if count > 1:
            starts, duration = _animation_times(image, count)
        timed = count == 1 or duration > 0  # pages of a TIFF have no times
        size = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size

    def load(positions: Iterable[int]) -> Iterator[Picture]:
        with _pillow_errors(name), opener() as image:
            for position in positions:
                if count > 1:
                    image.seek(position)
                yield to_rgb(image)

    turn = _EXIF_TURNS.get(orientation, 0)
    times = np.array(starts) if timed else None
    return Stills(name, count, size, load, codec, times, duration, turn)


def _animation_times(image: Image.Image, count: int) -> tuple[list[float], float]:
    starts, time = [], 0.0
    for position in range(count):
        image.seek(position)
        image.load()  # Pillow knows the time of a WebP frame only then
        starts.append(time)
        time += max(0.0, float(image.info.get("duration", 0.0))) / 1000
    return starts, time


def open_folder(path: str, name: str) -> Stills:
    """The pictures of a folder in the order of their names, numbers by value (2 before 10).

    Raises:
        VideoError: No picture in it, or the first one cannot be decoded.
    """
    with _pillow_errors(name):
        files = pictures_of(path)
    if not files:
        raise VideoError(
            f"{name}: a folder without pictures; give a video file, or a folder of jpg or png"
        )
    return open_list(files, name)


def pictures_of(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of the pictures in a folder, in the order in which they are its frames.

    Raises:
        OSError: it cannot be listed.
    """
    files = [
        entry.path
        for entry in os.scandir(folder)
        if is_frame_name(entry.name) and not entry.name.startswith(".") and entry.is_file()
    ]
    return sorted(files, key=lambda path: natural_order(os.path.basename(path)))


def is_frame_name(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return name.lower().endswith(_SUFFIXES)


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """A key to sort names by, numbers in them by value."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


@dataclass(frozen=True)
class Packed:
    """A picture inside another file; `read` gives the bytes of its own."""

    name: str
    read: Callable[[], bytes]


def open_list(items: list[Any], name: str) -> Stills:
    """A list of pictures: paths, URIs, bytes, binary streams, PIL images, and uint8 arrays (H, W),
    (H, W, 3) or (H, W, 4), mixed.

    Raises:
        VideoError: It is empty, or the first picture cannot be decoded.
    """
    if not items:
        raise VideoError(f"{name}: an empty list; give at least one picture")
    items = [_kept(item, f"{name} {position}") for position, item in enumerate(items)]

    def load(positions: Iterable[int]) -> Iterator[Picture]:
        return (_load_item(items[position], f"{name} {position}") for position in positions)

    height, width = next(load([0])).shape[:2]
    timeless = None if len(items) > 1 else np.zeros(1)
    return Stills(name, len(items), (width, height), load, "raw", timeless)


def _kept(item: Any, name: str) -> Any:
    """An item that can be loaded more than once, which a stream cannot."""
    if isinstance(item, Packed) or not hasattr(item, "read"):
        return item
    data = item.read()
    given = getattr(item, "name", None)
    return Packed(short_name(given) if isinstance(given, str) else name, lambda: data)


def _load_item(item: Any, name: str) -> Picture:
    if is_named(item):
        path = os.fspath(localized(item))
        with _pillow_errors(short_name(path)), Image.open(path, formats=FORMATS) as image:
            return to_rgb(image)
    if isinstance(item, str):
        item, name = data_of(item)[0], f"{name} ({short_name(item)})"
    elif isinstance(item, Packed):
        name = item.name
    if isinstance(item, bytes | bytearray | Packed):
        with _pillow_errors(name):
            data = item.read() if isinstance(item, Packed) else item
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return to_rgb(image)
    if isinstance(item, Image.Image):
        with _pillow_errors(name):
            return to_rgb(item)
    picture = to_array(item, name)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or not picture.size:
        raise VideoError(f"{name}: shape {picture.shape} is no picture; give uint8 (H, W, 3)")
    return np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3))


def open_array(array: Any) -> Stills:
    """A uint8 array or tensor (T, H, W, 3), or one picture (H, W, 3).

    Raises:
        VideoError: Another shape or dtype.
    """
    frames = to_array(array, "<array>")
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise VideoError(
            f"<array>: shape {frames.shape} is not (T, H, W, 3); "
            "bring channels last, for example frames.transpose(0, 2, 3, 1)"
        )
    timeless = None if len(frames) > 1 else np.zeros(1)
    size = (frames.shape[2], frames.shape[1])

    def load(positions: Iterable[int]) -> Iterator[Picture]:
        return (frames[position] for position in positions)

    return Stills("<array>", len(frames), size, load, "raw", timeless)


def to_array(value: Any, name: str) -> Picture:
    """A uint8 NumPy array from an array or tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        kind = getattr(value, "dtype", type(value).__name__)
        raise VideoError(f"{name}: {kind} is no picture data; give uint8 from 0 to 255")
    return value


def to_rgb(image: Image.Image) -> Picture:
    """An upright uint8 (H, W, 3) picture from a PIL image."""
    upright = ImageOps.exif_transpose(image)
    check_size(*upright.size, "<image>")
    if upright.mode.startswith("I;16"):
        # convert("RGB") would clip 16-bit grey to its lowest 255 levels.
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(upright.convert("RGB"))


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Whatever Pillow raises for a broken picture, as one line."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # of all kinds: its decoders are many
        cause = " ".join((getattr(error, "strerror", None) or str(error)).split())
        cause = cause or type(error).__name__
        raise VideoError(f"{name}: not a readable picture ({cause}); convert it to png") from error
