"""`/v1/examples`: videos of a folder that the operator named, for whoever opens the page."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from slowfast_mllm.serve.errors import ApiError

_VIDEOS = {".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", ".m4v"}


def example_routes(folder: Path | None, who: Any) -> APIRouter:
    """The routes; without a folder the list is empty. `who` refuses those without a key."""
    routes = APIRouter(prefix="/v1/examples", tags=["page"], dependencies=[who])

    def found() -> dict[str, Path]:
        files = sorted(folder.iterdir()) if folder is not None else ()
        return {f.name: f for f in files if f.suffix.lower() in _VIDEOS and f.is_file()}

    @routes.get("")
    async def examples() -> dict[str, Any]:
        """Names of videos to try, and where each is."""
        data = [{"name": name, "url": f"/v1/examples/{quote(name)}"} for name in found()]
        return {"object": "list", "data": data}

    @routes.get("/{name}")
    async def example(name: str) -> Response:
        """One of them. Only what is listed is given: a name is no path."""
        path = found().get(name)
        if path is None:
            raise ApiError(404, f"{name!r:.100}: no such example", "file_not_found")
        return FileResponse(path, media_type="application/octet-stream")

    return routes
