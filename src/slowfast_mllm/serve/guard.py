"""Around every request: limits of its body, its time, headers of safety, counting; and no request
ends in anything but an answer of the API."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from slowfast_mllm.serve.errors import ApiError, as_api_error
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import MIB, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


_RELUCTANT = 64 * MIB
_SLOWEST = 1000  # bytes a second, on average: who sends a byte now and then holds a place for ever
_LATE = ApiError(
    408, "nothing came for too long; send it again", "timeout", headers={"Connection": "close"}
)


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: Any, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        trouble: list[ApiError] = []  # with the body, which frameworks tell in their own words

        async def tell(message: Message) -> None:
            nonlocal status
            if trouble and not status:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                told = {name for name, _ in message["headers"]}  # by the server that was asked
                safe = [header for header in _HEADERS if header[0] not in told]
                message["headers"] = [*message["headers"], *safe]
            await send(message)

        try:
            self._check_caller(scope)
            await self.app(scope, self._limited(scope, receive, trouble), tell)
            if trouble and not status:
                raise trouble[0]
        except ClientDisconnect:
            self.metrics.gone.inc()
        except Exception as error:
            told = trouble[0] if trouble else as_api_error(error)
            if trouble:
                trouble.clear()
                await self._drain(receive)
            if not status:
                await told.response()(scope, receive, tell)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self.metrics.requests.labels(path, str(status or 499)).inc()

    def _check_caller(self, scope: Scope) -> None:
        """Web pages of others must not ask in the name of who looks at them, neither by a name of
        their own that leads here nor from where they are."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.settings.names and urlsplit(f"//{host}").hostname not in self.settings.names:
            raise ApiError(403, "this server does not go by that name", "wrong_host")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin not in self.settings.origins and urlsplit(origin).netloc != host:
            raise ApiError(403, "pages of other origins may not ask this server", "wrong_origin")

    async def _drain(self, receive: Receive) -> None:
        """Take in the rest of a refused body, within reason: who still sends would
        not hear why."""
        left = _RELUCTANT
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.body_seconds):
                while left > 0:
                    message = await receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))

    def _limited(self, scope: Scope, receive: Receive, trouble: list[ApiError]) -> Receive:
        """A body that is not too large and does not stand still; otherwise, what is wrong with it
        is put into `trouble`, too."""
        path = scope["path"]
        is_file = path.startswith(("/v1/files", "/v1/chat", "/v1/jobs", "/v1/uploads"))
        limit = self.settings.max_body
        if is_file:  # which may hold a file, in base64
            limit = self.settings.max_upload * 4 // 3 + self.settings.max_body
        length = dict(scope["headers"]).get(b"content-length", b"0")
        size, ended, began = 0, False, time.monotonic()

        async def more() -> Message:
            nonlocal size, ended
            if ended:  # what comes now is that the client goes
                return await receive()
            if length.isdigit() and int(length) > limit:
                trouble.append(_too_large(limit))
                raise trouble[0]
            try:
                async with asyncio.timeout(self.settings.body_seconds):
                    message = await receive()
            except TimeoutError as error:
                trouble.append(_LATE)
                raise _LATE from error
            size += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            late = time.monotonic() - began - self.settings.body_seconds
            if not ended and size < late * _SLOWEST:
                trouble.append(_LATE)
                raise _LATE
            if size > limit:
                trouble.append(_too_large(limit))
                raise trouble[0]
            return message

        return more


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"a body of more than {limit // MIB} MiB; send less", "body_too_large",
        headers={"Connection": "close"},
    )  # fmt: skip


async def unless_gone(request: Any, work: Any) -> Any:
    """What a coroutine returns; it is given up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_is_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _is_gone(request: Any) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
