"""What a server has of the files here: each is sent once, and known again by path or by content."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slowfast_cli.loading import cache_folder


class Upload:
    """A file or a folder of frames, and the name under which a server was sent it.

    Attributes:
        known: that name; None: it was not sent, or has changed since.

    Raises:
        ValueError: there is nothing to send.
    """

    def __init__(self, path: str, server: str) -> None:
        self._path = path
        self._files = [path]
        if os.path.isdir(path):
            from slowfast_mllm.video.stills import pictures_of

            self._files = pictures_of(path)
            if not self._files:
                raise ValueError(
                    f"{path}: a folder without pictures; give a video file, or a folder of jpg or "
                    "png"
                )
        elif not os.path.isfile(path):  # some never end
            raise ValueError(
                f"{path}: a pipe, socket or device, not a regular file; save it to a file first"
            )
        place = f"{server}\n{os.path.abspath(path)}".encode(errors="surrogateescape")
        folder = cache_folder()
        self._note = folder and folder / "uploads" / hashlib.sha256(place).hexdigest()
        self._stamp = [[s.st_mtime_ns, s.st_size, s.st_ino] for s in map(os.stat, self._files)]
        self.known = self._noted()

    def _noted(self) -> str | None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text()) if self._note else {}
            if note["stamp"] == self._stamp:
                return str(note["id"])
        return None

    def remember(self, name: str) -> None:
        """What the server calls it from now on. Without a home it is asked again each time."""
        with suppress(OSError):
            if self._note is not None:
                self._note.parent.mkdir(parents=True, exist_ok=True)
                partial = self._note.with_suffix(f".{os.getpid()}")
                partial.write_text(json.dumps({"id": name, "stamp": self._stamp}))
                partial.replace(self._note)

    @contextmanager
    def file(self) -> Iterator[tuple[Path, str]]:
        """What is sent, the file or a zip of the frames, and its SHA-256."""
        if not os.path.isdir(self._path):
            yield Path(self._path), _sha256(self._path)
            return
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / f"{Path(self._path).resolve().name}.zip"
            with zipfile.ZipFile(packed, "w") as archive:  # the same bytes for the same pictures
                for name in self._files:
                    member = zipfile.ZipInfo(os.path.basename(name))
                    archive.writestr(member, Path(name).read_bytes())
            yield packed, _sha256(packed)


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
