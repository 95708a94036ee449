"""Which part of its stored pictures a file wants shown: Matroska's PixelCrop, ISO media's `clap`.

FFmpeg reads both and PyAV passes neither on. Like `truncation.py`, this reads the container's own
structure and nothing of the pictures; what is broken or unknown means that all is shown.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from slowfast_mllm.video.media import Media
from slowfast_mllm.video.stereo import Window
from slowfast_mllm.video.truncation import (
    EBML_HEADER,
    MATROSKA_SEGMENT,
    MAX_BOXES,
    element_size,
    is_iso,
)

_TRACKS, _TRACK, _TRACK_TYPE, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROPS = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
_VIDEO_TRACK = 1  # the value of Matroska's TrackType
_SAMPLE_ENTRY_BYTES = 78  # of a picture's sample entry, before the boxes within it


def shown_window(media: Media, track: int, size: tuple[int, int]) -> Window | None:
    """The part of the stored pictures of a file that is to be shown, or None: all of it.

    Args:
        track: The number of the video track among the video tracks, from 0.
        size: (width, height) of the stored pictures.
    """
    try:
        with media.open() as handle:
            head = handle.read(16)
            if head.startswith(EBML_HEADER):
                return _matroska_window(handle, track, size)
            return _clean_aperture(handle, track, size) if is_iso(head) else None
    except (struct.error, IndexError, OverflowError, ZeroDivisionError):
        return None


def _matroska_window(handle: BinaryIO, track: int, size: tuple[int, int]) -> Window | None:
    end = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    tracks = 0, end
    for wanted in (MATROSKA_SEGMENT, _TRACKS):
        tracks = next((span for name, span in _elements(handle, *tracks) if name == wanted), (0, 0))
    videos = []
    for name, span in _elements(handle, *tracks):
        parts = dict(_elements(handle, *span)) if name == _TRACK else {}
        if _VIDEO in parts and _number(handle, parts.get(_TRACK_TYPE, (0, 0))) == _VIDEO_TRACK:
            videos.append(parts[_VIDEO])
    crops = dict.fromkeys(_CROPS.values(), 0)
    for name, span in _elements(handle, *videos[track]):
        if name in _CROPS:
            crops[_CROPS[name]] = _number(handle, span)
    width = size[0] - crops["left"] - crops["right"]
    height = size[1] - crops["top"] - crops["bottom"]
    return _checked((crops["left"], crops["top"], width, height), size)


def _elements(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Identifiers of EBML elements, and where the payload of each begins and ends."""
    for _ in range(MAX_BOXES):
        handle.seek(start)
        first = handle.read(1)
        if start >= end or not first or first[0] < 0x10:
            return
        rest = handle.read(8 - first[0].bit_length())
        length = element_size(handle)
        payload = handle.tell()
        start = end if length is None else payload + length
        yield int.from_bytes(first + rest, "big"), (payload, min(start, end))


def _number(handle: BinaryIO, span: tuple[int, int]) -> int:
    handle.seek(span[0])
    return int.from_bytes(handle.read(min(span[1] - span[0], 8)), "big")


def _clean_aperture(handle: BinaryIO, track: int, size: tuple[int, int]) -> Window | None:
    end = handle.seek(0, os.SEEK_END)
    videos = []
    for movie in _boxes(handle, 0, end, b"moov"):
        for trak in _boxes(handle, *movie, b"trak"):
            for media in _boxes(handle, *trak, b"mdia"):
                for handler in _boxes(handle, *media, b"hdlr"):
                    handle.seek(handler[0] + 8)
                    if handle.read(4) == b"vide":
                        videos.append(media)
    span = videos[track]
    for name in (b"minf", b"stbl", b"stsd"):
        span = next(_boxes(handle, *span, name), (0, 0))
    # The entry's own head and what describes the coded pictures come before its boxes.
    span = span[0] + 8 + 8 + _SAMPLE_ENTRY_BYTES, span[1]
    for clap in _boxes(handle, *span, b"clap"):
        handle.seek(clap[0])
        wide, by_w, high, by_h, x, by_x, y, by_y = struct.unpack(">IIIIiIiI", handle.read(32))
        width, height = wide // by_w, high // by_h
        left = round((size[0] - width) / 2 + x / by_x)
        top = round((size[1] - height) / 2 + y / by_y)
        return _checked((left, top, width, height), size)
    return None


def _boxes(handle: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Where the payloads of the boxes of one kind begin and end."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        handle.seek(start)
        head = handle.read(16)
        length, payload = int.from_bytes(head[:4], "big"), start + 8
        if length == 1:
            length, payload = int.from_bytes(head[8:16], "big"), start + 16
        if length == 0:
            length = end - start
        if length < 8:
            return
        start += length
        if head[4:8] == kind:
            yield payload, min(start, end)


def _checked(window: Window, size: tuple[int, int]) -> Window | None:
    left, top, width, height = window
    inside = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    return window if inside and width > 0 and height > 0 and (width, height) != size else None
