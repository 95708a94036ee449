"""Memories of all videos of a folder, kept in files: what is new or changed is watched, no more.

A video is known by what its file holds; size and time of the file only save reading it again. A
memory file is named by that content and how it was looked at: after a kill, what was watched stays.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slowfast_mllm.engine import Assistant, Encoded, MemoryFileError
from slowfast_mllm.engine.memory_names import SUFFIX, source_digest
from slowfast_mllm.tasks.records import Record, read_records
from slowfast_mllm.tasks.windows import equal_parts
from slowfast_mllm.video.names import short_name

DEFAULT_PLACE = ".slowfast"
_LIST = "index.json"


@dataclass(frozen=True)
class Remembered:
    """A video of the folder.

    Attributes:
        path: within the folder.
        size, changed: of its file: bytes, and nanoseconds of its time.
        content: SHA-256 of what it holds.
        windows: start and end in seconds of each part with a memory of its own.
    """

    path: str
    size: int
    changed: int
    content: str
    windows: list[tuple[float, float]]


@dataclass
class Changes:
    """What was otherwise than the last time, by path; of what failed, why."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    failed: dict[str, str]


class FolderIndex:
    """The videos of a folder and the memories of them, for one model and one way of looking."""

    def __init__(
        self,
        assistant: Assistant,
        folder: Path,
        place: Path | None = None,
        window: float = 10.0,
        **sampling: Any,
    ) -> None:
        """
        Args:
            folder: is searched at any depth.
            place: where memories are kept; None: in `.slowfast` in the folder.
            window: longest part of a video with a memory of its own, in seconds.
            **sampling: fields of `Sampling`, of each window, but `start` and `end`.

        Raises:
            ValueError: it is no folder, or an argument is wrong.
        """
        if not folder.is_dir():
            raise ValueError(f"{short_name(str(folder))}: not a folder; name one with videos.")
        if not 0.1 <= window < float("inf"):
            raise ValueError(f"window={window}: give seconds, at least 0.1.")
        if {"start", "end"} & sampling.keys():
            raise ValueError("start, end: of one video; all of each is searched, leave them out.")
        self.assistant = assistant
        self.keeps = assistant.capabilities.memory
        self.folder = folder
        self.window = window
        self.sampling = sampling
        self.settings = {"window": window, **sampling}
        same = json.dumps([assistant.name, self.settings], sort_keys=True, default=str)
        self._name = hashlib.sha256(same.encode()).hexdigest()[:12]
        self.place = (place or folder / DEFAULT_PLACE) / self._name
        self.videos: dict[str, Remembered] = {}

    def update(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Changes:
        """Watch what is new or has changed, and forget what is gone.

        Args:
            on_progress: called with how many videos were looked after, of how many.

        Raises:
            ValueError: the folder holds no video.
            OSError: memories cannot be written.
        """
        before = self._read_list()
        records = read_records([self.folder])
        changes = Changes([], [], [], {})
        self.videos = {}
        try:
            for number, record in enumerate(records):
                on_progress(number, len(records))
                path = os.path.relpath(record.video, self.folder)
                try:
                    self._look_after(record, path, before.get(path), changes)
                except _CannotWriteError:
                    raise
                except (ValueError, OSError) as error:
                    changes.failed[path] = str(error)
        finally:
            gone = before.keys() - {os.path.relpath(r.video, self.folder) for r in records}
            left = {p: seen for p, seen in before.items() if p not in gone}
            self._write_list({**left, **self.videos})
        changes.removed += sorted(gone)
        self._drop_unused()
        return changes

    def _look_after(
        self, record: Record, path: str, known: Remembered | None, changes: Changes
    ) -> None:
        stat = os.stat(record.video)
        if known is not None and (known.size, known.changed) == (stat.st_size, stat.st_mtime_ns):
            self.videos[path] = known
            return
        content = source_digest(record.video)
        if known is not None and known.content == content:
            windows = known.windows
        else:
            asked = {k: v for k, v in self.sampling.items() if k in ("frames_fps", "clip")}
            duration = self.assistant.reader.probe_video(record.video, **asked).duration
            windows = equal_parts(0.0, duration, self.window)
            (changes.added if known is None else changes.changed).append(path)
        seen = Remembered(path, stat.st_size, stat.st_mtime_ns, content, windows)
        if self.keeps:
            for span in windows:
                if not self._file(seen, span).exists():
                    self._watch(seen, span)
        self.videos[path] = seen

    def recall(self, video: Remembered, span: tuple[float, float]) -> Encoded:
        """A part of a video, from its memory, or watched (again) where there is none that is good.

        Raises:
            VideoError: the video cannot be read.
        """
        if not self.keeps:
            return self._encode(video, span)
        try:
            return self.assistant.encode(self._file(video, span))
        except MemoryFileError:  # damaged, gone, or of a model of this name that learned more
            return self._watch(video, span)

    def size_of(self, video: Remembered, span: tuple[float, float]) -> int:
        """Bytes of a memory's file; 0 where none is kept."""
        return self._file(video, span).stat().st_size if self.keeps else 0

    def _encode(self, video: Remembered, span: tuple[float, float]) -> Encoded:
        bounds = {} if len(video.windows) == 1 else {"start": span[0], "end": span[1]}
        return self.assistant.encode(self.folder / video.path, **bounds, **self.sampling)

    def _watch(self, video: Remembered, span: tuple[float, float]) -> Encoded:
        encoded = self._encode(video, span)
        with self._writing():
            self.place.mkdir(parents=True, exist_ok=True)
            self.assistant.keep(encoded, self._file(video, span))
        return encoded

    def _file(self, video: Remembered, span: tuple[float, float]) -> Path:
        start, end = span
        return self.place / f"{video.content[:24]}-{start:g}-{end:g}{SUFFIX}"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _CannotWriteError(
                f"{short_name(str(self.place))}: memories cannot be written "
                f"({error.strerror or error}); make room, or name another place with --index."
            ) from error

    def _read_list(self) -> dict[str, Remembered]:
        """None is known where there is no list, or one that was damaged."""
        try:
            rows = json.loads((self.place / _LIST).read_text(encoding="utf-8"))
            found = [
                Remembered(**{**r, "windows": [(a, b) for a, b in r["windows"]]}) for r in rows
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return {video.path: video for video in found}

    def _write_list(self, videos: dict[str, Remembered]) -> None:
        text = json.dumps([asdict(video) for video in videos.values()])
        with self._writing():
            self.place.mkdir(parents=True, exist_ok=True)
            partial = self.place / f"{_LIST}.{os.getpid()}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.place / _LIST)

    def _drop_unused(self) -> None:
        """Memories of what is gone or was another content."""
        used = {self._file(v, span).name for v in self.videos.values() for span in v.windows}
        for file in self.place.glob(f"*{SUFFIX}"):
            if file.name not in used:
                file.unlink(missing_ok=True)


class _CannotWriteError(OSError):
    """Of memories; not of a video."""
