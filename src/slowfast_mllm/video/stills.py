"""Still pictures as video: single ones, animations that Pillow reads, folders, lists, arrays.

EXIF orientation is applied and alpha is dropped: colours are those stored beneath. Pictures of a
set are fitted into the size of its first one, and those that are broken are left out. Video files
are not opened here.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.video.fitting import fitted_size, fitting_warnings, on_black
from slowfast_mllm.video.media import Media
from slowfast_mllm.video.names import data_of, is_named, localized, short_name
from slowfast_mllm.video.picture import UNCHANGED, Picture, Transform, allocate, check_size
from slowfast_mllm.video.pillow import (
    BrokenPictureError,
    is_frame_name,
    notes_of,
    open_image,
    pillow_errors,
    to_rgb,
)
from slowfast_mllm.video.result import SampledVideo, VideoError, VideoInfo
from slowfast_mllm.video.sampling import SampleRequest

# Pictures that carry no time of their own are taken as one a second.
_NOMINAL_FPS = 1.0
_TIMELESS = (
    f"pictures without time stamps: their times are positions, {_NOMINAL_FPS:g} a second; state "
    "their rate (frames_fps, --frames-fps, or video_metadata)"
)
_CLIP_INSIDE = "a motion photo: its picture is looked at; clip=True (--clip) reads the clip inside"
_PROBE_PIXELS = 50_000_000
_A_PIXEL = Transform(lambda height, width: (1, 1), lambda picture: picture[:1, :1])
_NAMED = 3  # pictures left out that are named one by one
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
        clip: The video that lies in the same file.
        notes: One line each: what is not shown as it is.
        separate: Whether each is a file of its own, which may be broken.
        broken: What is wrong with those that are known to be, by position.
    """

    name: str
    count: int
    size: tuple[int, int]
    load: Callable[[Iterable[int]], Iterator[Picture]]
    codec: str
    timestamps: NDArray[np.float64] | None = None
    duration: float = 0.0
    rotation: int = 0
    clip: Media | None = None
    notes: tuple[str, ...] = ()
    separate: bool = False
    broken: Mapping[int, str] = field(default_factory=dict)

    def probe(self) -> VideoInfo:
        """The facts; small sets (about half a second of decoding) are looked at as a whole."""
        if self.separate and self.count * self.size[0] * self.size[1] <= _PROBE_PIXELS:
            return self.read(SampleRequest(), _A_PIXEL).info
        return self._info(self.broken)

    def _info(self, broken: Mapping[int, str]) -> VideoInfo:
        duration = self.duration if self.timestamps is not None else self.count / _NOMINAL_FPS
        count = self.count - len(broken)
        return VideoInfo(
            path=self.name,
            num_frames=count,
            duration=duration,
            fps=count / duration if duration > 0 else 0.0,
            width=self.size[0],
            height=self.size[1],
            codec=self.codec,
            rotation=self.rotation,
            warnings=(
                *((_TIMELESS,) if self.timestamps is None else ()),
                *((_CLIP_INSIDE,) if self.clip is not None else ()),
                *self.notes,
                *_left_out(broken),
            ),
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
            VideoError: None can be decoded, one of an animation cannot, none lies within the
                bounds, or too large.
        """
        broken = dict(self.broken)
        while (video := self._read(request, transform, broken)) is None:
            continue  # without those that turned out to be broken
        return video

    def walk(
        self, begin: Callable[[float], Callable[[Picture], None]], transform: Transform = UNCHANGED
    ) -> tuple[NDArray[np.float64], VideoInfo]:
        """All pictures, one after the other, as `walk_video` does it; their seconds, and the facts.

        Raises:
            VideoError: None can be decoded, or one of an animation cannot.
        """
        broken = dict(self.broken)
        see = begin(self._info(broken).fps)
        sizes = set()
        for picture in self._pictures([i for i in range(self.count) if i not in broken], broken):
            sizes.add(picture.shape[1::-1])
            see(transform.apply(_fitted(picture, self.size)))
        if len(broken) == self.count:
            raise VideoError(next(iter(broken.values())))
        info = self._info(broken)
        info = replace(info, warnings=(*info.warnings, *fitting_warnings(sizes, self.size)))
        times = self.timestamps
        if times is None:
            times = np.arange(self.count, dtype=np.float64) / _NOMINAL_FPS
        return np.delete(times, sorted(broken)), info

    def _read(
        self, request: SampleRequest, transform: Transform, broken: dict[int, str]
    ) -> SampledVideo | None:
        """None where a picture is broken that is not in `broken`; then it is."""
        known = len(broken)
        usable = np.array([i for i in range(self.count) if i not in broken], dtype=np.int64)
        if not usable.size:
            raise VideoError(next(iter(broken.values())))
        info = self._info(broken)
        times = self.timestamps
        if times is None:
            times = np.arange(self.count, dtype=np.float64) / _NOMINAL_FPS
        times = times[usable]
        chosen = request.indices(times, info.duration, self.name)
        wanted, rows = np.unique(chosen, return_inverse=True)
        frames = allocate(chosen.size, transform.size(self.size), self.name)[: wanted.size]
        sizes = set()
        for row, picture in enumerate(self._pictures(usable[wanted].tolist(), broken)):
            sizes.add(picture.shape[1::-1])
            frames[row] = transform.apply(_fitted(picture, self.size))
        if len(broken) > known:
            return None
        info = replace(info, warnings=(*info.warnings, *fitting_warnings(sizes, self.size)))
        repeated = frames if rows.size == wanted.size else frames[rows]
        return SampledVideo(repeated, times[chosen], chosen, info)

    def _pictures(self, positions: list[int], broken: dict[int, str]) -> Iterator[Picture]:
        """Those that can be decoded; the others go into `broken`."""
        if not self.separate:
            yield from self.load(positions)
            return
        for position in positions:
            try:
                yield from self.load([position])
            except BrokenPictureError as error:
                broken[position] = str(error)


def _left_out(broken: Mapping[int, str]) -> list[str]:
    lines = [f"left out: {broken[position]}" for position in sorted(broken)]
    more = [f"{len(lines) - _NAMED} more pictures left out that cannot be read"]
    return lines if len(lines) <= _NAMED else lines[:_NAMED] + more


def has_times(name: str) -> VideoError:
    """What refuses a rate for a clip that needs none."""
    return VideoError(
        f"{name}: has times of its own; leave out frames_fps (--frames-fps), which is the rate of "
        "a folder or list of frames"
    )


def open_picture(opener: Callable[[], Image.Image], name: str, clip: Media | None = None) -> Stills:
    """A still picture or an animation; `opener` opens it afresh each time.

    Args:
        clip: The video that lies in the same file.

    Raises:
        VideoError: It cannot be decoded, or is too large.
    """
    with pillow_errors(name), opener() as image:
        check_size(*image.size, name)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        # What follows the first picture of an MPO is its preview, or what the other eye sees.
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        # What an APNG shows where animations are unknown is none of its frames.
        first = int(count > 1 and getattr(image, "default_image", False))
        count -= first
        codec = (image.format or "image").lower()
        starts, duration = [0.0], 0.0
        if count > 1:
            starts, duration = _animation_times(image, range(first, first + count))
        notes = notes_of(image)
        timed = count == 1 or duration > 0  # pages of a TIFF have no times
        size = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size

    def load(positions: Iterable[int]) -> Iterator[Picture]:
        with pillow_errors(name), opener() as image:
            for position in positions:
                if first + count > 1:
                    image.seek(first + position)
                yield to_rgb(image)

    turn = _EXIF_TURNS.get(orientation, 0)
    times = np.array(starts) if timed else None
    return Stills(name, count, size, load, codec, times, duration, turn, clip, notes)


def _animation_times(image: Image.Image, positions: range) -> tuple[list[float], float]:
    starts, time = [], 0.0
    for position in positions:
        image.seek(position)
        image.load()  # Pillow knows the time of a WebP frame only then
        starts.append(time)
        time += max(0.0, float(image.info.get("duration", 0.0))) / 1000
    return starts, time


def open_folder(path: str, name: str) -> Stills:
    """The pictures of a folder in the order of their names, numbers by value (2 before 10).

    Raises:
        VideoError: No picture in it, or none that can be decoded.
    """
    with pillow_errors(name):
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
        VideoError: It is empty, holds something else, or no picture that can be decoded.
    """
    if not items:
        raise VideoError(f"{name}: an empty list; give at least one picture")
    items = [_kept(item, f"{name} {position}") for position, item in enumerate(items)]

    def load(positions: Iterable[int]) -> Iterator[Picture]:
        return (_load_item(items[position], f"{name} {position}") for position in positions)

    broken: dict[int, str] = {}
    for position in range(len(items)):
        try:
            size = next(load([position])).shape[1::-1]
            break
        except BrokenPictureError as error:
            broken[position] = str(error)
    else:
        raise VideoError(broken[0])
    timeless = None if len(items) > 1 else np.zeros(1)
    stills = Stills(name, len(items), size, load, "raw", timeless)
    return replace(stills, separate=True, broken=broken)


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
        with pillow_errors(short_name(path)), open_image(path, path) as image:
            return to_rgb(image)
    if isinstance(item, str):
        item, name = data_of(item)[0], f"{name} ({short_name(item)})"
    elif isinstance(item, Packed):
        name = item.name
    if isinstance(item, bytes | bytearray | Packed):
        with pillow_errors(name):
            data = item.read() if isinstance(item, Packed) else item
            with open_image(io.BytesIO(data), name) as image:
                return to_rgb(image)
    if isinstance(item, Image.Image):
        with pillow_errors(name):
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


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    inner = fitted_size(image.size, size)
    return on_black(np.asarray(image.resize(inner, Image.Resampling.BICUBIC)), size)
