"""By what memories, and the videos they were made of, are told from others; without torch."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slowfast_mllm
from slowfast_mllm.video.names import is_named, short_name
from slowfast_mllm.video.stills import pictures_of

SUFFIX = ".sfmem"


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of parts, one after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def source_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's pictures.

    Raises:
        OSError: it cannot be read, or is neither a file nor a folder (but a pipe, say).
    """
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise OSError(f"{short_name(str(path))}: not a regular file")
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    files = map(Path, pictures_of(path))
    return digest(os.fsencode(p.name) + f" {source_digest(p)}\n".encode() for p in files)


def source_stamp(path: str | os.PathLike[str]) -> Any:
    """Times and sizes by which a file, or a folder's pictures, can be seen to be others; quick.

    Raises:
        OSError: it is not there.
    """
    files = pictures_of(path) if os.path.isdir(path) else [path]
    return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in map(os.stat, files))


def memory_key(video: Any, *settings: Any) -> str | None:
    """The name under which a video is kept; None for what has no file (arrays, streams).

    Args:
        settings: what else a memory depends on.
    """
    if not is_named(video):
        return None
    try:
        content = source_digest(video)
    except (OSError, ValueError):
        return None  # reading it will say what is wrong
    wanted = json.dumps(
        [content, *settings, slowfast_mllm.__version__], sort_keys=True, default=str
    )
    return digest([wanted.encode()])
