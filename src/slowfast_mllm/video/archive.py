"""A zip of pictures as a video. It is read in memory: nothing is ever extracted to disk."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import BinaryIO

from slowfast_mllm.video.names import short_name
from slowfast_mllm.video.pillow import is_frame_name
from slowfast_mllm.video.result import VideoError
from slowfast_mllm.video.stills import Packed, Stills, natural_order, open_list

_HEADS = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 1  # flag
_MAX_END_BYTES = 100 + 22 + (1 << 16)  # records at the end, the last one with a comment
_MAX_MEMBERS = 100_000
_MAX_DIRECTORY_BYTES = 32 << 20  # zipfile reads the list of members into memory as a whole
_MAX_MEMBER_BYTES = 256 << 20
_MAX_BYTES = 16 << 30  # of all pictures


def is_zip(head: bytes) -> bool:
    """Whether a file whose first bytes are `head` is a zip archive."""
    return head.startswith(_HEADS)


def open_zip(file: str | BinaryIO, name: str) -> Stills:
    """The pictures of a zip archive, in the order of their names as those of a folder.

    Raises:
        VideoError: It is damaged, encrypted, too large, or holds no picture.
    """
    too_many = VideoError(f"{name}: a zip of more than {_MAX_MEMBERS} files; split it")
    with _zip_errors(name):
        if _directory_bytes(file) > _MAX_DIRECTORY_BYTES:
            raise too_many
        archive = zipfile.ZipFile(file)  # stays open as long as one of its pictures is wanted
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise too_many
    frames = [member for member in members if _is_frame(member)]
    if not frames:
        raise VideoError(f"{name}: a zip without pictures; give one of jpg or png frames")
    if any(member.flag_bits & _ENCRYPTED for member in frames):
        raise VideoError(f"{name}: an encrypted zip; unpack it and give the folder")
    sizes = [member.file_size for member in frames]
    if max(sizes) > _MAX_MEMBER_BYTES or sum(sizes) > _MAX_BYTES:
        raise VideoError(
            f"{name}: a picture of more than {_MAX_MEMBER_BYTES >> 20} MiB, or more than "
            f"{_MAX_BYTES >> 30} GiB in all, once unpacked; make them smaller"
        )
    frames.sort(key=lambda member: [natural_order(part) for part in member.filename.split("/")])
    return open_list(
        [Packed(f"{name}: {short_name(m.filename)}", partial(archive.read, m)) for m in frames],
        name,
    )


def _is_frame(member: zipfile.ZipInfo) -> bool:
    """Hidden files and folders are left out, and what macOS puts beside each picture."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in member.filename.split("/"))
    return not member.is_dir() and not hidden and is_frame_name(member.filename)


def _directory_bytes(file: str | BinaryIO) -> int:
    """Size of the list of members, as the end of the archive tells it; 0 where it tells none."""
    with open(file, "rb") if isinstance(file, str) else nullcontext(file) as handle:
        end = handle.seek(0, io.SEEK_END)
        handle.seek(max(0, end - _MAX_END_BYTES))
        tail = handle.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return 0
    size = int(struct.unpack_from("<L", tail, at + 12)[0])
    large = at - 20 - 56  # where the record of archives beyond 4 GiB or 65,535 members lies
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        size = max(0 if size == 0xFFFFFFFF else size, struct.unpack_from("<Q", tail, large + 40)[0])
    return size


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    """Whatever zipfile raises for a broken archive, as one line."""
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # of all kinds: of its decompressors, too
        cause = " ".join(str(error).split())[:80] or type(error).__name__
        raise VideoError(f"{name}: not a readable zip ({cause}); get it again") from error
