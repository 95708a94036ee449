"""Clips for the video tests: small ones encoded here, whose frames tell their own number, and odd
files of the optional shared folder.
"""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

SHARED = Path(__file__).resolve().parents[3] / "shared"
ODD = SHARED / "videos" / "odd"


def odd_entries() -> list[dict[str, Any]]:
    """The entries of the manifest of odd files, none where there is no shared folder."""
    manifest = ODD / "MANIFEST.json"
    return json.loads(manifest.read_text())["files"] if manifest.is_file() else []


# name -> (container format, encoder, pixel format, encoder options)
KINDS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "h264.mp4": ("mp4", "libx264", "yuv420p", {"g": "8", "bf": "2", "crf": "18"}),
    "h264_fragmented.mp4": ("mp4", "libx264", "yuv420p", {"g": "8", "crf": "18"}),
    "hevc.mkv": ("matroska", "libx265", "yuv420p", {"x265-params": "keyint=8:log-level=none"}),
    "vp9.webm": ("webm", "libvpx-vp9", "yuv420p", {"g": "8", "b": "400k"}),
    "vp8.webm": ("webm", "libvpx", "yuv420p", {"g": "8", "b": "400k"}),
    "h264_open_groups.mkv": (
        "matroska",
        "libx264",
        "yuv420p",
        {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:b-adapt=0", "crf": "18"},
    ),
    "hevc_layers.mp4": (
        "mp4",
        "libx265",
        "yuv420p",
        {"x265-params": "temporal-layers=3:bframes=3:b-adapt=0:keyint=8:log-level=none"},
    ),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p", {"g": "8", "bf": "2", "q": "3"}),
    "mpeg4.mp4": ("mp4", "mpeg4", "yuv420p", {"g": "8", "bf": "2", "q": "3"}),
    "mpeg2.ts": ("mpegts", "mpeg2video", "yuv420p", {"g": "8", "bf": "2", "b": "2000k"}),
    "mpeg2.mkv": ("matroska", "mpeg2video", "yuv420p", {"g": "8", "bf": "2", "b": "2000k"}),
    "h264.ts": ("mpegts", "libx264", "yuv420p", {"g": "8", "bf": "2", "crf": "18"}),
    "mjpeg.mov": ("mov", "mjpeg", "yuvj420p", {"q": "2"}),
    "h264.flv": ("flv", "libx264", "yuv420p", {"g": "8", "crf": "18"}),
    "animated.gif": ("gif", "gif", "rgb8", {}),
}


def numbered_picture(number: int, width: int = 64, height: int = 48) -> Picture:
    """A smooth picture whose lowest ninth spells `number` in 8 blocks, highest bit left."""
    rows, columns = np.mgrid[:height, :width]
    red = 40 + columns * 100 // width
    green = 60 + rows * 80 // height
    blue = np.full_like(red, 100 + number % 32)
    picture = np.stack([red, green, blue], axis=-1).astype(np.uint8)
    strip = height - height // 9
    for bit in range(8):
        left, right = bit * width // 8, (bit + 1) * width // 8
        picture[strip:, left:right] = 255 if number >> (7 - bit) & 1 else 0
    return picture


def strip_number(picture: Picture) -> int:
    """The number that the strip along the lower edge of an upright picture spells."""
    height, width = picture.shape[:2]
    rows = picture[height - max(1, height // 18) :]
    number = 0
    for bit in range(8):
        block = rows[:, bit * width // 8 + width // 32 : (bit + 1) * width // 8 - width // 32]
        number = number * 2 + int(block.mean() > 127)
    return number


def encode_clip(
    kind: str,
    frames: int = 24,
    *,
    stamps: list[int] | None = None,
    rate: int = 24,
    size: tuple[int, int] = (64, 48),
    setup: Any = None,
) -> bytes:
    """The bytes of a clip of `KINDS[kind]` with numbered frames.

    `stamps` are presentation times in milliseconds (default: constant `rate`); `setup` is
    called with the stream before the first frame.
    """
    container_format, encoder, pixels, options = KINDS[kind]
    buffer = io.BytesIO()
    flags = {"movflags": "frag_keyframe+empty_moov"} if "fragmented" in kind else {}
    with av.open(buffer, "w", format=container_format, container_options=flags) as container:
        stream = container.add_stream(encoder, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.options = options
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if setup is not None:
            setup(stream)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def encode_pictures() -> dict[str, bytes]:
    """Still and animated pictures of Pillow's formats."""
    images = [Image.fromarray(numbered_picture(number)) for number in range(4)]
    results = {}
    for name in ("still.jpeg", "still.png", "still.webp", "still.bmp", "still.tiff", "still.avif"):
        results[name] = _saved(images[0], name.split(".")[1])
    for name in ("animated.webp", "animated.png"):
        extra = {"save_all": True, "append_images": images[1:], "duration": 100}
        results[name] = _saved(images[0], name.split(".")[1], **extra)
    return results


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def decode_all(path: Path | io.BytesIO) -> list[Picture]:
    """Every frame of the best video stream by PyAV alone, in one thread, from the start."""
    with av.open(path if isinstance(path, io.BytesIO) else str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_type, stream.thread_count = "NONE", 1
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
