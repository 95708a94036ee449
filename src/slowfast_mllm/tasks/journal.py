"""Results of many videos in a JSON Lines file that survives whatever ends its program.

A line is written whole and at once, and told by its id: the same command after a crash, a kill or a
full disk does what is not there yet, and nothing twice. What failed stands with its cause in a file
beside it, `out.errors.jsonl`, which each run makes anew since it tries again what failed.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from slowfast_mllm.video.names import short_name

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: two programs may not share an output there, and nothing says so
    flock = None  # type: ignore[assignment]


class Journal:
    """An output to append to; use it as a context manager.

    Attributes:
        done: ids that are there.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """
        Args:
            path: ends in `.jsonl`; goes on where it is there.
            settings: fields that all lines have, with these values.

        Raises:
            ValueError: the file is another program's, was made with other settings, or is being
                written by somebody else.
            OSError: it cannot be written.
        """
        self.path = path
        self.errors = path.with_suffix(".errors.jsonl")
        self._settings = json.loads(json.dumps(settings))  # as they are read back
        self._name = short_name(str(path))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._lock()
            self.done = set(self._read())
            self.errors.unlink(missing_ok=True)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def append(self, id: str, fields: dict[str, Any]) -> None:
        """Write a result, whole or not at all.

        Raises:
            OSError: there is no room, or the disk is gone; all lines before are kept.
        """
        _append(self._file, {"id": id, **fields}, self._name)
        self.done.add(id)

    def fail(self, id: str, video: str, error: Exception) -> None:
        """Write why there is no result."""
        cause = str(error) or type(error).__name__
        line = {"id": id, "video": short_name(video), "error": cause}
        file = os.open(self.errors, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            os.lseek(file, 0, os.SEEK_END)
            _append(file, line, short_name(str(self.errors)))
        finally:
            os.close(file)

    def _lock(self) -> None:
        if flock is None:
            return
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{self._name}: another program is writing it; wait for it, or choose another "
                "output."
            ) from error

    def _read(self) -> Iterator[str]:
        """Ids of the lines; what a killed program left of its last one is cut off."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                yield self._id(number, line)
                end += len(line)
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)

    def _id(self, number: int, line: bytes) -> str:
        try:
            row = json.loads(line)
            found = row["id"]
            differing = [k for k, v in self._settings.items() if _asked(row[k]) != v]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{self._name}: line {number} is none of this job's results; choose another output."
            ) from error
        if differing:
            raise ValueError(
                f"{self._name}: made before with other {' and '.join(differing)}; give the same "
                "again, or choose another output."
            )
        return str(found)


def _asked(value: Any) -> Any:
    """Settings without what was chosen for one video, where the choice was left to the engine."""
    if not isinstance(value, dict):
        return value
    return {name: given for name, given in value.items() if name != "frame_choice"}


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The results in a journal."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _append(file: int, row: dict[str, Any], name: str) -> None:
    """One line at the end of an open file: with as few writes as the system needs."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    begin = os.lseek(file, 0, os.SEEK_CUR)
    try:
        left = memoryview(line)
        while left:
            left = left[os.write(file, left) :]
    except OSError as error:
        os.ftruncate(file, begin)
        os.lseek(file, begin, os.SEEK_SET)
        raise OSError(
            f"{name}: cannot be written ({error.strerror}); what is there is whole: make room and "
            "give the same command again."
        ) from error
