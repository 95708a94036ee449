"""`/v1/uploads`: a large file in parts, as in OpenAI's API; what broke off goes on."""

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, UploadFile
from pydantic import Field

from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.files import Files, Spool, remove, remove_abandoned
from slowfast_mllm.serve.shell import Body
from slowfast_mllm.video.names import printable, shortened

_PIECE = 1 << 20
_HOUR = 3600
_MOST = 16  # of one owner, at once


class Begun(Body):
    """A file that is to come in parts."""

    filename: str = Field(max_length=1000)
    bytes: int = Field(ge=1)
    mime_type: str = Field(max_length=200)
    purpose: str = Field(max_length=64)
    expires_after: dict[str, Any] | None = None


class Complete(Body):
    """Which parts make the file, in order."""

    part_ids: list[str] = Field(max_length=100_000)
    md5: str | None = None


@dataclass
class _Upload:
    id: str
    owner: str
    begun: Begun
    folder: Path
    created_at: int
    parts: dict[str, int] = field(default_factory=dict)  # id -> bytes

    def told(self, status: str, file: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.begun.bytes,
            "created_at": self.created_at,
            "expires_at": self.created_at + _HOUR,
            "filename": shortened(printable(self.begun.filename)),
            "purpose": self.begun.purpose,
            "status": status,
            "file": file,
        }


class Uploads:
    """Files that come in parts; forgotten after an hour, and when the server ends."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.folder = files.settings.place / "uploads"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_abandoned(self.folder, "*", 2 * _HOUR)
        self._open: dict[str, _Upload] = {}

    def begin(self, begun: Begun, owner: str) -> dict[str, Any]:
        """A new upload.

        Raises:
            ApiError: the file would be too large, or too many are begun.
        """
        for old in [u for u in self._open.values() if u.created_at + _HOUR < time.time()]:
            self._drop(old)
        if begun.bytes > self.files.settings.max_upload:
            limit = self.files.settings.max_upload >> 20
            raise ApiError(413, f"more than {limit} MiB; send a smaller file", "file_too_large")
        if sum(upload.owner == owner for upload in self._open.values()) >= _MOST:
            raise ApiError(
                429,
                f"{_MOST} uploads are begun; complete or cancel some",
                "busy",
                headers={"Retry-After": "60"},
            )
        name = f"upload_{secrets.token_urlsafe(24)}"
        upload = _Upload(name, owner, begun, self.folder / name, int(time.time()))
        upload.folder.mkdir(mode=0o700)
        self._open[name] = upload
        return upload.told("pending")

    async def add(self, name: str, owner: str, data: UploadFile) -> dict[str, Any]:
        """A part of a file."""
        upload = self._get(name, owner)
        part = f"part_{secrets.token_urlsafe(12)}"
        path = upload.folder / part
        try:
            with path.open("wb") as target:
                spool = Spool(target, upload.begun.bytes - sum(upload.parts.values()))
                while piece := await data.read(_PIECE):
                    await to_thread.run_sync(spool.write, piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        upload.parts[part] = spool.size
        now = int(time.time())
        return {"id": part, "object": "upload.part", "created_at": now, "upload_id": name}

    async def complete(self, name: str, owner: str, how: Complete) -> dict[str, Any]:
        """Make a file of parts.

        Raises:
            ApiError: a part is missing, or they are not as long as was said.
        """
        upload = self._get(name, owner)
        size = sum(upload.parts.get(part, 0) for part in how.part_ids)
        if not upload.parts.keys() >= set(how.part_ids) or size != upload.begun.bytes:
            raise wrong(
                f"part_ids: {size} bytes of {upload.begun.bytes} are here; send the rest first",
                "part_ids",
            )

        async def pieces() -> AsyncIterator[bytes]:
            for part in how.part_ids:
                with (upload.folder / part).open("rb") as source:
                    while piece := await to_thread.run_sync(source.read, _PIECE):
                        yield piece

        begun = upload.begun
        seconds = (begun.expires_after or {}).get("seconds")
        file = await self.files.add(
            pieces(),
            owner,
            begun.filename,
            begun.purpose,
            seconds if isinstance(seconds, int) and seconds > 0 else None,
        )
        self._drop(upload)
        return upload.told("completed", file.told())

    def cancel(self, name: str, owner: str) -> dict[str, Any]:
        """Forget it."""
        upload = self._get(name, owner)
        self._drop(upload)
        return upload.told("cancelled")

    def _get(self, name: str, owner: str) -> _Upload:
        upload = self._open.get(name)
        if upload is None or upload.owner != owner:
            raise ApiError(404, "no such upload; begin one (POST /v1/uploads)", "upload_not_found")
        return upload

    def _drop(self, upload: _Upload) -> None:
        self._open.pop(upload.id, None)
        remove(upload.folder)


def upload_routes(files: Files, who: Any) -> APIRouter:
    """The routes; `who` gives the owner of a request."""
    routes, uploads = APIRouter(tags=["files"]), Uploads(files)

    @routes.post("/v1/uploads")
    async def begin(body: Begun, owner: str = who) -> dict[str, Any]:
        """Begin a file that comes in parts."""
        return uploads.begin(body, owner)

    @routes.post("/v1/uploads/{name}/parts")
    async def add(
        name: str, data: Annotated[UploadFile, "a part"], owner: str = who
    ) -> dict[str, Any]:
        """Send a part."""
        return await uploads.add(name, owner, data)

    @routes.post("/v1/uploads/{name}/complete")
    async def complete(name: str, body: Complete, owner: str = who) -> dict[str, Any]:
        """Make a file of the parts."""
        return await uploads.complete(name, owner, body)

    @routes.post("/v1/uploads/{name}/cancel")
    async def cancel(name: str, owner: str = who) -> dict[str, Any]:
        """Give it up."""
        return uploads.cancel(name, owner)

    return routes
