"""One picture that Pillow reads: which kinds, how it becomes RGB, and what is said of a broken one.

Only kinds are opened that are decoded in this process alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from slowfast_mllm.video import hdr
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
_OF_16_BITS = ("PNG", "PPM")  # of which Pillow gives 16 bits in 32
# TIFF's tag for the kind of its numbers, and its value for those without a sign (the default).
_SAMPLE_FORMAT, _UNSIGNED = 339, (1,)
# Primaries and transfer in AVIF and PNG, PQ or HLG.
_CICP = re.compile(rb"(?:colrnclx\0(.)\0|\0\0\0\x04cICP(.))([\x10\x12])", re.DOTALL)
_CICP_WITHIN = 1 << 16
_HDR = "slowfast_hdr"  # where the two are kept in a picture's info
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
    image = Image.open(file, formats=_FORMATS + plugged_in)
    if image.format in ("AVIF", "PNG"):
        _note_hdr(image)
    return image


def _note_hdr(image: Image.Image) -> None:
    """Keep in `info` what Pillow does not pass on: that colours are coded as PQ or HLG."""
    file = cast(BinaryIO, cast(Any, image).fp)
    position = file.tell()
    file.seek(0)
    found = _CICP.search(file.read(_CICP_WITHIN))
    file.seek(position)
    if found:
        avif, png, transfer = found.groups()
        image.info[_HDR] = transfer[0], (avif or png)[0]


def is_frame_name(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return name.lower().endswith(_SUFFIXES)


def to_rgb(image: Image.Image) -> Picture:
    """An upright uint8 (H, W, 3) picture in sRGB from a PIL image.

    Alpha is dropped. An embedded colour profile is followed, unless it is broken or not for such
    a picture. Of more than 8 bits, 16 are brought down to 8, floats from 0 to 1 are taken as
    shares of white, and whole numbers and floats up to 255 as they are; what is beyond is scaled
    so that its smallest value is black and its largest white.
    """
    upright = ImageOps.exif_transpose(image)
    check_size(*upright.size, "<image>")
    if upright.mode[0] in "IF":
        # convert("RGB") would clip all but the lowest 255 levels.
        return np.stack([_grey(image, np.asarray(upright))] * 3, axis=-1)
    picture = np.asarray(_in_srgb(upright))
    light = image.info.get(_HDR)
    return hdr.tone_map_rgb(picture, *light) if light else picture


def notes_of(image: Image.Image) -> tuple[str, ...]:
    """A line where `to_rgb` does not show the picture of `open_image` as it is."""
    light = image.info.get(_HDR)
    return (hdr.tone_mapping_note(light[0]),) if light else ()


def _grey(image: Image.Image, values: NDArray[Any]) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.format in _OF_16_BITS:
        return (values >> 8).astype(np.uint8)
    tags = getattr(image, "tag_v2", {_SAMPLE_FORMAT: None})
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow has but one kind of 32 bits
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = float(values[finite].min()), float(values[finite].max())
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    held = np.where(finite, values, low).astype(np.float64)
    return np.rint((held - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, by its embedded ICC profile."""
    # Alpha goes first: colours are those stored beneath.
    mode = {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    profile = image.info.get("icc_profile")
    known = isinstance(profile, bytes) and _HDR not in image.info
    transform = _to_srgb(profile, mode) if known else None
    if transform is None:
        return image.convert("RGB")
    return cast(Image.Image, ImageCms.applyTransform(image.convert(mode), transform))


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where a profile changes nothing, is broken, or is not for pictures of this mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


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
