"""`/v1/files`: uploading, listing, giving back and forgetting files, as in OpenAI's API."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import FileResponse, Response

from slowfast_mllm.serve.files import Files, behind

_PIECE = 1 << 20


def file_routes(files: Files, who: Any) -> APIRouter:
    """The routes; `who` gives the owner of a request."""
    routes = APIRouter(prefix="")

    @routes.post("/v1/files")
    async def upload(
        file: UploadFile,
        purpose: Annotated[str, Form(max_length=64)] = "user_data",
        anchor: Annotated[str | None, Form(alias="expires_after[anchor]")] = None,
        seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=1)] = None,
        owner: str = who,
    ) -> dict[str, Any]:
        """Upload a video or picture; its id stands for it in requests with the same key."""

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await file.read(_PIECE):
                yield piece

        name = file.filename or "video"
        return (await files.add(pieces(), owner, name, purpose, seconds)).told()

    @routes.get("/v1/files")
    async def all_files(
        sha256: Annotated[str | None, Query(pattern="^[0-9a-fA-F]{64}$")] = None,
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        after: str | None = None,
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        owner: str = who,
    ) -> dict[str, Any]:
        """One's own files; with `sha256`, those with that content."""
        found = behind(files.all_of(owner, sha256, purpose, order == "asc"), after)
        told = [stored.told() for stored in found[:limit]]
        ends = {"first_id": told[0]["id"], "last_id": told[-1]["id"]} if told else {}
        return {"object": "list", "data": told, "has_more": len(found) > limit, **ends}

    @routes.get("/v1/files/{name}")
    async def file_facts(name: str, owner: str = who) -> dict[str, Any]:
        """Facts about a file of one's own."""
        return files.get(name, owner).told()

    @routes.get("/v1/files/{name}/content")
    async def content(name: str, owner: str = who) -> Response:
        """What it holds; parts of it, too, as players ask for them."""
        stored = files.get(name, owner)
        return FileResponse(stored.path, media_type="application/octet-stream")

    @routes.delete("/v1/files/{name}")
    async def delete(name: str, owner: str = who) -> dict[str, Any]:
        """Forget it."""
        files.delete(name, owner)
        return {"id": name, "object": "file", "deleted": True}

    return routes
