"""Memories of videos that were asked before, on disk: the next question skips reading and encoding.

Keyed by what the file holds, which frames were looked at, and the model. The memories that were
longest unused go first when the limit is reached.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from slowfast_mllm.engine.encoded_video import (
    PARTIAL,
    EncodedVideo,
    MemoryFileError,
    load_encoded,
    save_encoded,
)
from slowfast_mllm.engine.memory_names import SUFFIX, memory_key
from slowfast_mllm.model import SlowFastForConditionalGeneration

DEFAULT_LIMIT = 2 << 30  # bytes
_ABANDONED = 86400  # seconds after which nobody can still be writing a file


class MemoryCache:
    """A folder of memories, safe to share between processes: files appear whole or not at all."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        """`limit` is in bytes; a memory larger than that is not kept."""
        self.folder = folder
        self.limit = limit

    def key(self, video: Any, *settings: Any) -> str | None:
        """The name under which a video is kept; None for what has no file (arrays, streams).

        Args:
            settings: what else a memory depends on.
        """
        return memory_key(video, *settings)

    def get(
        self, key: str, model: str, like: SlowFastForConditionalGeneration
    ) -> EncodedVideo | None:
        """A memory, or None; a damaged one is thrown away."""
        path = self._path(key)
        try:
            if not path.exists():
                return None
            encoded = load_encoded(path, model, like)
        except OSError:  # others' folder
            return None
        except MemoryFileError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # a cache that others filled for us to read
            _used_now(path)
        return encoded

    def put(self, key: str, encoded: EncodedVideo, model: str) -> None:
        """Keep a memory. A full or read-only disk is no reason to fail: nothing is kept then."""
        if encoded.memory.nbytes > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_encoded(encoded, self._path(key), model, source=None, precision="exact")
            _used_now(self._path(key))
            self._evict()
        except OSError:
            return

    def _evict(self) -> None:
        """Remove what was longest unused until the rest fits the limit."""
        for left in self.folder.glob(f"*{PARTIAL}"):  # by programs that were killed
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink(missing_ok=True)
        used = 0
        files = [(path.stat(), path) for path in self.folder.glob(f"*{SUFFIX}")]
        for stat, path in sorted(files, key=lambda f: f[0].st_mtime, reverse=True):
            used += stat.st_size
            if used > self.limit:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


def _used_now(path: Path) -> None:
    """By the fine clock: the one that file systems take by themselves may stand still a while."""
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
