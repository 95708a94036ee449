"""The front of several servers that share a folder: it keeps uploads, and has everything else
answered by the server that has seen the video in question."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import aclosing
from hashlib import sha256
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from slowfast_mllm.serve.errors import ApiError, as_api_error
from slowfast_mllm.serve.file_routes import file_routes
from slowfast_mllm.serve.files import Files
from slowfast_mllm.serve.guard import unless_gone
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.serve.shell import shell
from slowfast_mllm.serve.streams import DONE
from slowfast_mllm.serve.uploads import upload_routes

Message = MutableMapping[str, Any]
# Of a video's key, a request and its body; the messages of ASGI that answer it. Raises ApiError.
Answers = Callable[[str, dict[str, Any], bytes], AsyncIterator[Message]]
# Names of the servers, and their metrics.
Told = Callable[[], Awaitable[list[tuple[str, bytes]]]]

_SENT = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "client")
_NAMED = ("file-", "data:", "http://", "https://", "file:")


def create_front(settings: Settings, answers: Answers, told: Told) -> FastAPI:
    """The application.

    Args:
        answers: asks one of the servers, always the same for the same key; any for the key "".
        told: metrics of all servers; there are none before the first one is ready.
    """
    metrics = Metrics()
    app, who = shell(settings, metrics, openapi_url=None)  # the servers' tells all of it
    files = Files(settings)
    app.include_router(file_routes(files, who))
    app.include_router(upload_routes(files, who))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        count = len(await told())
        if not count:
            raise ApiError(503, "not ready; ask again in a moment", "not_ready")
        return {"status": "ready", "replicas": count}

    @app.get("/metrics")
    async def of_all() -> Response:
        return Response(merged(await told()), media_type=CONTENT_TYPE_LATEST)

    app.mount("/", _Relay(settings, files, answers))
    return app


class _Relay:
    """An ASGI application that has requests answered elsewhere."""

    def __init__(self, settings: Settings, files: Files, answers: Answers) -> None:
        self.settings = settings
        self.files = files
        self.answers = answers

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        key = await to_thread.run_sync(self._key, scope["path"], body)
        asked: dict[str, Any] = {name: scope[name] for name in _SENT if name in scope}
        # Whether a page may ask was decided here.
        asked["headers"] = [header for header in scope["headers"] if header[0] != b"origin"]
        await unless_gone(request, self._relayed(self.answers(key, asked, body), send))

    async def _relayed(self, messages: AsyncIterator[Message], send: Any) -> None:
        """Pass on what comes; a stream that breaks off ends with what went wrong."""
        streams = False
        async with aclosing(messages) as coming:  # type: ignore[type-var]
            try:
                async with asyncio.timeout(self.settings.deadline):
                    first = await anext(coming)
                await send(first)
                streams = (b"content-type", b"text/event-stream") in _kinds(first)
                async for message in coming:
                    await send(message)
            except TimeoutError as error:
                raise ApiError(504, "no replica took the request in time", "deadline") from error
            except Exception as error:
                if not streams:
                    raise
                told = f"data: {json.dumps(as_api_error(error).body())}\n\n{DONE}"
                await send({"type": "http.response.body", "body": told.encode()})

    def _key(self, path: str, body: bytes) -> str:
        """What the video is known by that a request is about; "" if it is about none."""
        name = next(_references(path, body), "")
        file = self.files.find(name)
        if file is not None:
            return file.sha256
        return sha256(name.encode(errors="replace")).hexdigest() if name else ""


def _kinds(start: Message) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.partition(b";")[0]) for name, value in start["headers"]]


def _references(path: str, body: bytes) -> Iterator[str]:
    """What seems to name a video; a word that only looks like it does no harm."""
    if path.startswith("/v1/videos/"):
        yield path.split("/")[3]
    try:
        left = [json.loads(body)]
    except (ValueError, RecursionError):  # the server that is asked will say so
        return
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += [value for key, value in reversed(part.items()) if key != "text"]
        elif isinstance(part, list):
            left += reversed(part)
        elif isinstance(part, str) and part.lower().startswith(_NAMED):
            yield part


def merged(told: list[tuple[str, bytes]]) -> bytes:
    """Metrics of several servers as one page for Prometheus, each with its server's name."""
    families: dict[str, Metric] = {}
    for server, text in told:
        for family in text_string_to_metric_families(text.decode()):
            kept = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {**sample.labels, "replica": server}
                kept.samples.append(sample._replace(labels=labels))
    return generate_latest(_Collected(families))


class _Collected(CollectorRegistry):
    """Metrics that were collected elsewhere."""

    def __init__(self, families: dict[str, Metric]) -> None:
        super().__init__()
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families.values()
