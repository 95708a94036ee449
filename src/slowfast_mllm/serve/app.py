"""The application: which path does what, who may ask, and what begins and ends with the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slowfast_mllm.engine import Assistant
from slowfast_mllm.serve.chat import is_called
from slowfast_mllm.serve.desk import Desk
from slowfast_mllm.serve.errors import ApiError
from slowfast_mllm.serve.example_routes import example_routes
from slowfast_mllm.serve.file_routes import file_routes
from slowfast_mllm.serve.files import Files
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.question_routes import question_routes
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.serve.shell import shell
from slowfast_mllm.serve.sources import Sources
from slowfast_mllm.serve.uploads import upload_routes


def create_app(assistant: Assistant, settings: Settings) -> FastAPI:
    """The application of a loaded model, for uvicorn."""
    metrics = Metrics()
    house = _House(assistant, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await house.begin()
        yield
        await to_thread.run_sync(house.end)

    app, who = shell(settings, metrics, lifespan=lifespan)
    app.state.house = house
    _watching(app, house)
    _models(app, house, who)
    app.include_router(file_routes(house.files, who))
    app.include_router(upload_routes(house.files, who))
    app.include_router(question_routes(lambda: house.desk, who))
    app.include_router(example_routes(settings.examples, who))
    page = files("slowfast_mllm.serve").joinpath("page")
    app.mount("/", _Page(directory=str(page), html=True, check_dir=False), name="page")
    return app


class _Page(StaticFiles):
    """Files that a browser asks for again: after an upgrade, old ones and new ones do not mix."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _House:
    """What belongs to one server."""

    def __init__(self, assistant: Assistant, settings: Settings, metrics: Metrics) -> None:
        self.assistant = assistant
        self.settings = settings
        self.metrics = metrics
        self.files = Files(settings)
        self.sources = Sources(settings, self.files)
        self.is_ready = False

    async def begin(self) -> None:
        parts = (self.assistant, self.settings, self.sources, self.metrics)
        self.desk = await to_thread.run_sync(Desk, *parts)
        await to_thread.run_sync(self.desk.warm_up)
        self.is_ready = True

    def end(self) -> None:
        self.is_ready = False
        self.desk.close()


def _watching(app: FastAPI, house: _House) -> None:
    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """The server runs."""
        return {"status": "ok"}

    @app.get("/ready", tags=["server"])
    async def ready() -> dict[str, str]:
        """The model is loaded, and requests are taken."""
        if not house.is_ready or house.desk.closing:
            raise ApiError(503, "not ready; ask again in a moment", "not_ready")
        return {"status": "ready"}

    @app.get("/metrics", tags=["server"])
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(house.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _models(app: FastAPI, house: _House, who: Any) -> None:
    def facts() -> dict[str, Any]:
        return {
            "id": house.assistant.name,
            "object": "model",
            "created": 0,
            "owned_by": "slowfast",
            "capabilities": vars(house.assistant.capabilities),
            "limits": {
                "max_upload_bytes": house.settings.max_upload,
                "max_seconds": house.settings.max_seconds,
                "max_frames": house.settings.max_frames,
                "max_tokens": house.settings.max_tokens,
                "max_question_characters": house.settings.max_question,
            },
        }

    @app.get("/v1/models", tags=["models"])
    async def models(owner: str = who) -> dict[str, Any]:
        """The model that this server has."""
        return {"object": "list", "data": [facts()]}

    @app.get("/v1/models/{name:path}", tags=["models"])
    async def model(name: str, owner: str = who) -> dict[str, Any]:
        """The same, by its name."""
        if not is_called(name, house.assistant.name):
            raise ApiError(404, f"{name!r:.100}: no such model", "model_not_found", "model")
        return facts()
