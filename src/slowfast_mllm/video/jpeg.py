"""What a JPEG file holds behind its first picture: frames (motion JPEG) or a clip (motion photo).

Previews, gain maps and depth maps of cameras also lie there; they are neither.
"""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

from PIL import Image

_START = b"\xff\xd8\xff"
_NEXT = b"\xff\xd9" + _START
_MOST_BYTES = 64 << 20  # holds three pictures of any camera, and the clip of any motion photo
_BOXES = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"meta", b"udta", b"uuid"),
    *(b"free", b"skip", b"wide"),
}


class Behind(NamedTuple):
    """What follows the first picture of a file.

    Attributes:
        frames: Whether it is a video of JPEG after JPEG.
        clip: The mp4 file of a motion photo.
    """

    frames: bool = False
    clip: bytes | None = None


def look_behind(file: BinaryIO) -> Behind:
    """What follows the first picture of a file, nothing where it is no JPEG."""
    file.seek(0)
    if file.read(len(_START)) != _START:
        return Behind()
    data = _START + file.read(_MOST_BYTES)
    if data.count(_NEXT) >= 2 and _are_frames(data):
        return Behind(frames=True)
    return Behind(clip=_clip(data))


def _are_frames(data: bytes) -> bool:
    """Whether picture follows picture of one size; cameras list theirs at the first one (MPF)."""
    try:
        first = Image.open(io.BytesIO(data), formats=("JPEG",))
        second = Image.open(io.BytesIO(data[data.index(_NEXT) + 2 :]), formats=("JPEG",))
    except Exception:  # damaged, of all kinds: FFmpeg is the better judge
        return True
    return first.format != "MPO" and first.size == second.size


def _clip(data: bytes) -> bytes | None:
    """The whole boxes from the first one of type `ftyp` on, where a movie is among them."""
    at = data.find(b"ftyp")
    while at >= 4:
        start = end = at - 4
        kinds = set()
        while (kind := data[end + 4 : end + 8]) in _BOXES:
            length = int.from_bytes(data[end : end + 4], "big")
            if length == 1:
                length = int.from_bytes(data[end + 8 : end + 16], "big")
            if length < 8:  # 0: up to the end
                length = 0 if length else len(data) - end
            if not length:
                break
            kinds.add(kind)
            end += length
        if {b"ftyp", b"moov"} <= kinds:
            return data[start:end]
        at = data.find(b"ftyp", at + 4)
    return None
