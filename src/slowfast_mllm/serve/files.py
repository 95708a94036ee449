"""Uploaded files: each is its owner's alone, under a name that cannot be guessed, for a while.

The folder is what is true: several servers may share one.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread

from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.settings import MIB, Settings
from slowfast_mllm.video.names import printable, shortened

_CHUNK = 1 << 20
_HOUR = 3600.0
_NAME = re.compile(r"file-[A-Za-z0-9_-]{32}")


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file.

    Attributes:
        owner: the key it was uploaded with.
        sha256: of its content.
        path: where that lies.
    """

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: int
    expires_at: int
    path: str

    def told(self) -> dict[str, Any]:
        """As OpenAI's API tells it; `sha256` is ours, for clients that know a file already."""
        facts = asdict(self)
        del facts["owner"], facts["path"]
        return {"object": "file", "status": "processed", **facts}


class Spool:
    """Writes what arrives into a file, counts and digests it."""

    def __init__(self, target: BinaryIO, limit: int) -> None:
        self.target = target
        self.limit = limit
        self.size = 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """The next piece.

        Raises:
            ApiError: it is more than the limit.
        """
        self.size += len(data)
        if self.size > self.limit:
            raise ApiError(
                413,
                f"more than {self.limit // MIB} MiB, the limit of this server; send a smaller file",
                "file_too_large",
            )
        self._digest.update(data)
        self.target.write(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Files:
    """A folder of uploaded files, which outlives the server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.place / "files"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_abandoned(self.folder, "*.partial", settings.deadline + settings.body_seconds)
        self._files: dict[str, StoredFile] = {}

    def _all(self) -> dict[str, StoredFile]:
        """What is in the folder now; what was there before is not read again."""
        names = {name for name in os.listdir(self.folder) if _NAME.fullmatch(name)}
        for name in self._files.keys() - names:
            del self._files[name]
        for name in names - self._files.keys():
            file = self._read(self.folder / name)
            if file is not None:
                self._files[name] = file
        return self._files

    def find(self, name: str) -> StoredFile | None:
        """A file, whoever's it is, if there is one and its time has not come."""
        file = self._read(self.folder / name) if _NAME.fullmatch(name) else None
        return None if file is None or file.expires_at <= time.time() else file

    def _read(self, place: Path) -> StoredFile | None:
        try:
            facts = json.loads((place / "about.json").read_text(encoding="utf-8"))
            # Where another server put it may be called otherwise here.
            return replace(StoredFile(**facts), path=str(place / "content"))
        except (OSError, ValueError, TypeError):  # deleted, or still being put there
            return None

    async def add(
        self,
        pieces: AsyncIterator[bytes],
        owner: str,
        filename: str,
        purpose: str,
        seconds: float | None = None,
    ) -> StoredFile:
        """Take in a file.

        Args:
            seconds: until it is forgotten, at most as many as the operator said.

        Raises:
            ApiError: it is empty or too large, or there is no room.
        """
        self.forget_old()
        room = self.settings.max_stored - sum(file.bytes for file in self._all().values())
        if room <= 0:
            raise ApiError(
                507, "no room for further files; delete some, or wait until they expire", "no_room"
            )
        partial = self.folder / f"{secrets.token_hex(12)}.partial"
        try:
            with partial.open("wb") as target:
                spool = Spool(target, min(self.settings.max_upload, room))
                async for piece in pieces:
                    await to_thread.run_sync(spool.write, piece)
            if not spool.size:
                raise wrong(f"{shortened(printable(filename))}: the file is empty", "file")
            return self._keep(partial, spool, owner, filename, purpose, seconds)
        finally:
            partial.unlink(missing_ok=True)

    def _keep(
        self,
        partial: Path,
        spool: Spool,
        owner: str,
        filename: str,
        purpose: str,
        seconds: float | None,
    ) -> StoredFile:
        now = int(time.time())
        longest = self.settings.upload_hours * _HOUR
        name = f"file-{secrets.token_urlsafe(24)}"
        place = self.folder / name
        file = StoredFile(
            id=name,
            owner=owner,
            filename=shortened(printable(os.path.basename(filename))) or "video",
            purpose=purpose,
            bytes=spool.size,
            sha256=spool.sha256,
            created_at=now,
            expires_at=now + int(min(seconds or longest, longest)),
            path=str(place / "content"),
        )
        place.mkdir(mode=0o700)
        partial.replace(place / "content")
        (place / "about.json").write_text(json.dumps(asdict(file)), encoding="utf-8")
        return file

    def get(self, name: str, owner: str) -> StoredFile:
        """A file of one's own.

        Raises:
            ApiError: there is none; whether another has one is not told.
        """
        file = self.find(name)
        if file is None or file.owner != owner:
            raise ApiError(
                404,
                f"{shortened(printable(name))}: no such file; upload it (POST /v1/files)",
                "file_not_found",
            )
        return file

    def all_of(
        self,
        owner: str,
        sha256: str | None = None,
        purpose: str | None = None,
        oldest_first: bool = False,
    ) -> list[StoredFile]:
        """One's own, of that content and for that purpose, the newest first by default."""
        self.forget_old()
        mine = [file for file in self._all().values() if file.owner == owner]
        if sha256 is not None:
            mine = [file for file in mine if file.sha256 == sha256.lower()]
        if purpose is not None:
            mine = [file for file in mine if file.purpose == purpose]
        mine.sort(key=lambda file: (file.created_at, file.id), reverse=not oldest_first)
        return mine

    def delete(self, name: str, owner: str) -> None:
        """Forget a file of one's own, at once."""
        self._drop(self.get(name, owner))

    def forget_old(self) -> None:
        """Those whose time has come."""
        now = time.time()
        for file in [f for f in self._all().values() if f.expires_at <= now]:
            self._drop(file)

    def _drop(self, file: StoredFile) -> None:
        self._files.pop(file.id, None)
        remove(self.folder / file.id)


def remove_abandoned(folder: Path, pattern: str, seconds: float) -> None:
    """Remove what servers that were killed left behind: nobody has written there for so long.

    What other servers, which may share the folder, write now stays.
    """
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone meanwhile
            if time.time() - left.stat().st_mtime > seconds:
                remove(left)


def remove(place: Path) -> None:
    """Remove a file or a folder, if it is there."""
    with contextlib.suppress(OSError):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def behind(files: list[StoredFile], after: str | None) -> list[StoredFile]:
    """Those that follow one of them in a list; all, where none is named."""
    ids = [file.id for file in files]
    if after is None:
        return files
    return files[ids.index(after) + 1 :] if after in ids else []
