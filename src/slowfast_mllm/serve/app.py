"""The application: which path does what, who may ask, and what begins and ends with the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from slowfast_mllm.engine import Assistant
from slowfast_mllm.serve.desk import Desk
from slowfast_mllm.serve.errors import ApiError, as_api_error
from slowfast_mllm.serve.example_routes import example_routes
from slowfast_mllm.serve.file_routes import file_routes
from slowfast_mllm.serve.files import Files
from slowfast_mllm.serve.guard import Guard
from slowfast_mllm.serve.keys import Keys
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.question_routes import question_routes
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.serve.sources import Sources
from slowfast_mllm.serve.uploads import upload_routes

_NOBODY = "local"  # whose files they are where no keys are asked for


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


def shell(settings: Settings, metrics: Metrics, **how: Any) -> tuple[FastAPI, Any]:
    """An application without routes: what is around all of them, and what gives a request's owner.

    Args:
        how: further arguments of `FastAPI`.
    """
    app = FastAPI(
        title="slowfast",
        version=version("slowfast-mllm"),
        summary="Questions about videos, in the form of OpenAI's API.",
        docs_url=None,
        redoc_url=None,
        **how,
    )
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    keys = Keys(settings.keys) if settings.keys is not None else None

    def owner(request: Request) -> str:
        """Whose request it is."""
        if keys is None:
            return _NOBODY
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        name = keys.name_of(secret.strip()) if kind.lower() == "bearer" else None
        if name is None:
            raise ApiError(
                401, "no such API key; send one as Authorization: Bearer KEY", "invalid_api_key"
            )
        return name

    _errors(app)
    return app, Depends(owner)


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


def _errors(app: FastAPI) -> None:
    async def told(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        status, reason = error.status_code, error.detail
        if status in (404, 405) and "route" not in request.scope:
            # The page's files are asked for whatever nothing else knows: they take reading only.
            paths = [compile_path(path)[0] for path in app.openapi()["paths"]]
            status = 405 if any(path.match(request.url.path) for path in paths) else 404
            reason = "not with this method" if status == 405 else "not known here"
            reason += "; /docs/ lists what is"
        code = {404: "not_found", 405: "method_not_allowed"}.get(status)
        headers = dict(error.headers) if error.headers else None
        where = f"{request.method} {request.url.path:.80}: {reason}"
        return ApiError(status, where, code, headers=headers).response()

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(ValueError, told)
    app.add_exception_handler(RequestValidationError, told)
    app.add_exception_handler(ValidationError, told)
    app.add_exception_handler(HTTPException, of_http)


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
        if name != house.assistant.name:
            raise ApiError(404, f"{name!r:.100}: no such model", "model_not_found", "model")
        return facts()
