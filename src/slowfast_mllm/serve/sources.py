"""From what a request names a video by to a file that can be read: and only what may be read.

Uploaded ids, `data:` URLs, http(s) from allowed hosts, `file://` under allowed folders.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from slowfast_mllm.engine.memory_names import source_digest, source_stamp
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.fetch import fetch
from slowfast_mllm.serve.files import Files, Spool, remove, remove_abandoned
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.tasks.records import read_records
from slowfast_mllm.video import VideoError
from slowfast_mllm.video.names import data_of, is_data_uri, localized, printable, short_name

_KNOWN = 4096  # digests of named files that are remembered


@dataclass(frozen=True)
class Source:
    """A video that can be read.

    Attributes:
        path: of a local file, or a folder of frames.
        sha256: of its content, by which it is known again however it is named.
        name: what messages and results call it.
    """

    path: str
    sha256: str
    name: str


class Sources:
    """Opens what requests name."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self.settings = settings
        self.files = files
        self.folder = settings.place / "now"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folders = [os.path.realpath(folder) for folder in settings.folders]
        self._digests: dict[object, str] = {}

    @asynccontextmanager
    async def open(self, reference: str, owner: str) -> AsyncIterator[Source]:
        """A source, which is there as long as the block runs.

        Args:
            reference: id of an uploaded file, or URL.
            owner: whose uploaded files may be named.

        Raises:
            ApiError: it is not there, or may not be read.
        """
        if is_data_uri(reference):
            async with self.scratch() as place:
                yield await to_thread.run_sync(self._written, reference, place)
        elif reference.lower().startswith(("http://", "https://")):
            async with self.scratch() as place:
                yield await self._fetched(reference, place)
        elif reference.lower().startswith("file:"):
            yield await to_thread.run_sync(self._named, reference)
        elif reference.startswith("file-"):
            file = self.files.get(reference, owner)
            yield Source(file.path, file.sha256, file.filename)
        else:
            raise wrong(
                f"{short_name(reference)}: not a video that can be named here; upload it "
                "(POST /v1/files) and give its id, or give a data: URL, an http(s) URL of a host "
                "or a file:// URL of a folder that this server allows",
                code="invalid_url",
            )

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """A new name that is gone after the block."""
        seconds = self.settings.deadline + self.settings.body_seconds
        remove_abandoned(self.folder, "*", seconds)
        place = self.folder / secrets.token_hex(12)
        try:
            yield place
        finally:
            await asyncio.shield(asyncio.to_thread(remove, place))

    def _written(self, uri: str, place: Path) -> Source:
        name = short_name(uri)
        if len(uri) > self.settings.max_upload * 4 // 3 + 1024:
            limit = self.settings.max_upload >> 20
            raise ApiError(413, f"{name}: more than {limit} MiB; send less", "file_too_large")
        try:
            files = data_of(uri)
        except VideoError as error:
            raise wrong(str(error), code="invalid_url") from error
        if len(files) == 1:
            place.write_bytes(files[0])
        else:
            place.mkdir(mode=0o700)
            for number, data in enumerate(files):
                (place / f"{number:06}.jpg").write_bytes(data)
        return Source(str(place), source_digest(place), name)

    async def _fetched(self, url: str, place: Path) -> Source:
        name = short_name(url)
        with place.open("wb") as target:
            spool = Spool(target, self.settings.max_upload)
            await fetch(url, self.settings.hosts, spool.write)
        return Source(str(place), spool.sha256, name)

    def videos_in(self, reference: str) -> dict[str, str]:
        """The videos of an allowed folder: path within it -> where it really is.

        Raises:
            ApiError: it may not be read, or holds none.
        """
        folder = self._allowed(reference)
        try:
            found = [record.video for record in read_records([folder])]
        except ValueError as error:
            raise wrong(str(error).replace(folder, reference), "folder") from error
        real = {os.path.relpath(path, folder): os.path.realpath(path) for path in found}
        return {name: path for name, path in real.items() if self._is_inside(path)}

    def _named(self, reference: str) -> Source:
        name, path = short_name(reference), self._allowed(reference)
        try:
            stamp = (path, source_stamp(path))
            digest = self._digests.get(stamp)
            if digest is None:
                if len(self._digests) >= _KNOWN:
                    self._digests.clear()
                digest = self._digests[stamp] = source_digest(path)
        except OSError as error:
            reason = error.strerror or "not a regular file"
            raise wrong(f"{name}: cannot be read ({reason})", code="invalid_video") from error
        return Source(path, digest, printable(reference))

    def _allowed(self, reference: str) -> str:
        """Links are followed first: what counts is where a file really lies."""
        name = short_name(reference)
        try:
            path = os.path.realpath(localized(reference))
        except ValueError as error:
            why = str(error) if isinstance(error, VideoError) else f"{name}: no path; check the URL"
            raise wrong(why, code="invalid_url") from error
        inside = self._is_inside(path)
        if not inside or not os.path.exists(path):
            raise ApiError(
                403 if not inside else 404,
                f"{name}: not in a folder that this server may read"
                if not inside
                else f"{name}: no such file; check the path",
                "not_allowed" if not inside else "file_not_found",
            )
        return path

    def _is_inside(self, path: str) -> bool:
        return any(os.path.commonpath([path, folder]) == folder for folder in self._folders)
