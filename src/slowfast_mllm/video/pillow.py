"""One picture that Pillow reads: which kinds, how it becomes RGB, and what is said of a broken one.

Only kinds are opened that are decoded in this process alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from slowfast_mllm.video.picture import Picture, check_size
from slowfast_mllm.video.result import VideoError

_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jxl", ".tga"),
    *(".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
)
_HEADS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*"),
    b"\xff\x4f\xff\x51",  # JPEG 2000 without a container
    *(b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"),  # JPEG XL
)
_JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n"
HEAD_BYTES = 24
_NETPBM = re.compile(rb"P[1-6]\s")
# Pillow opens no other kind, whatever a file is called: for some it would start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000")
_PLUGGED_IN = "JXL"  # read where another package has taught Pillow how
_NAMELESS = ".tga"  # a kind that no head tells, so that its name must


class BrokenPictureError(VideoError):
    """A picture that cannot be decoded."""


def is_picture(head: bytes, path: str = "") -> bool:
    """Whether a file whose first `HEAD_BYTES` are `head` is a picture for Pillow."""
    if path.lower().endswith(_NAMELESS) or _NETPBM.match(head):
        return True
    if head.startswith(_JPEG_2000):
        return head[20:24] != b"mjp2"  # which is a video
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return webp or avif or head.startswith(_HEADS)


def open_image(file: Any, path: str = "") -> Image.Image:
    """As `Image.open`, of the kinds that are read here."""
    if path.lower().endswith(_NAMELESS):
        return Image.open(file, formats=("TGA",))
    plugged_in = (_PLUGGED_IN,) if _PLUGGED_IN in Image.OPEN else ()
    return Image.open(file, formats=_FORMATS + plugged_in)


def is_frame_name(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return name.lower().endswith(_SUFFIXES)


def to_rgb(image: Image.Image) -> Picture:
    """An upright uint8 (H, W, 3) picture from a PIL image."""
    upright = ImageOps.exif_transpose(image)
    check_size(*upright.size, "<image>")
    if upright.mode.startswith("I;16"):
        # convert("RGB") would clip 16-bit grey to its lowest 255 levels.
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(upright.convert("RGB"))


@contextmanager
def pillow_errors(name: str) -> Iterator[None]:
    """Whatever Pillow raises for a broken picture, as one line."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # of all kinds: its decoders are many
        if isinstance(error, OSError) and error.strerror:  # of the file system
            raise VideoError(
                f"{name}: cannot be opened ({error.strerror}); check the path"
            ) from error
        cause = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # which would repeat the name, or an address
            cause = "of no kind that is read here"
        raise BrokenPictureError(
            f"{name}: not a readable picture ({cause}); convert it to png"
        ) from error
