"""How many bytes of a file are missing at its end, by the sizes its own boxes declare.

Covers ISO media (mp4, mov), Matroska (mkv, webm) and RIFF (avi); other formats give 0, and so do
files that were written without sizes (live recordings).
"""

from __future__ import annotations

import os
from typing import BinaryIO

from slowfast_mllm.video.media import Media

MAX_BOXES = 100_000
EBML_HEADER = b"\x1a\x45\xdf\xa3"
MATROSKA_SEGMENT = 0x18538067


def missing_bytes(media: Media) -> int:
    """Bytes between the end of the file and the end that its structure announces, or 0."""
    with media.open() as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        head = handle.read(16)
        if head.startswith(EBML_HEADER):
            announced = _matroska_end(handle)
        elif head.startswith(b"RIFF"):
            announced = 8 + int.from_bytes(head[4:8], "little")
        elif is_iso(head):
            announced = _iso_end(handle, size)
        else:
            announced = 0
    return max(0, announced - size)


def is_iso(head: bytes) -> bool:
    """Whether a file whose first 16 bytes are `head` is made of ISO media's boxes."""
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")


def _iso_end(handle: BinaryIO, size: int) -> int:
    position = 0
    for _ in range(MAX_BOXES):
        if position >= size:
            break
        handle.seek(position)
        head = handle.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8:
            # 0 means "to the end of the file"; anything else is not a box.
            return size
        position += length
    return position


def _matroska_end(handle: BinaryIO) -> int:
    """End of the first segment, 0 where it is of unknown size or not found."""
    handle.seek(4)
    header = element_size(handle)
    if header is None:
        return 0
    handle.seek(header, os.SEEK_CUR)
    if int.from_bytes(handle.read(4), "big") != MATROSKA_SEGMENT:
        return 0
    segment = element_size(handle)
    return handle.tell() + segment if segment is not None else 0


def element_size(handle: BinaryIO) -> int | None:
    """A variable-length EBML size; None where it is unknown (all ones) or broken."""
    first = handle.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = handle.read(length - 1)
    value = int.from_bytes(first + rest, "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return None if unknown or len(rest) != length - 1 else value
