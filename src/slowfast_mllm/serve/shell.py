"""What is around the routes of every application: who may ask, limits, and errors in one form."""

from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from slowfast_mllm.serve.errors import ApiError, as_api_error
from slowfast_mllm.serve.guard import Guard
from slowfast_mllm.serve.keys import Keys
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings

_NOBODY = "local"  # whose files they are where no keys are asked for


class Body(BaseModel):
    """A request's JSON; a field that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


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
        if status == 400:  # of a body, in the words of whoever takes it apart
            reason += "; send JSON in UTF-8, of files multipart/form-data"
        code = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed"}.get(status)
        headers = dict(error.headers) if error.headers else None
        where = f"{request.method} {request.url.path:.80}: {reason}"
        return ApiError(status, where, code, headers=headers).response()

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(ValueError, told)
    app.add_exception_handler(RequestValidationError, told)
    app.add_exception_handler(ValidationError, told)
    app.add_exception_handler(HTTPException, of_http)
