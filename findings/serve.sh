#!/usr/bin/env bash
# FastAPI: what an ASGI middleware raises while a body is read does not reach its exception handler.
# Expected: an error of one's own, raised by the `receive` of a middleware (a limit of size or time),
# ends at the handler that is registered for its type, as it does from a dependency or an endpoint.
# Is: FastAPI reads the body inside `except Exception` and answers 400 "There was an error parsing
# the body"; the handler is never called, and a 413 or 408 is lost. Only HTTPException passes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check fastapi==0.165.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import json
from importlib.metadata import version

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

print("fastapi", version("fastapi"), "starlette", version("starlette"))


class TooLargeError(Exception):
    pass


def application(error):
    app = FastAPI()

    @app.exception_handler(TooLargeError)
    async def handler(request, error):
        return JSONResponse({"told by": "the handler"}, 413)

    @app.post("/")
    async def take(body: dict):
        return body

    class Limit:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def limited():
                raise error

            await self.app(scope, limited if scope["type"] == "http" else receive, send)

    app.add_middleware(Limit)
    return app


async def asked(app):
    sent = []
    scope = {
        "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1",
        "asgi": {"version": "3.0"}, "scheme": "http", "root_path": "",
        "server": ("test", 80), "client": ("test", 1),
    }

    async def send(message):
        sent.append(message)

    await app(scope, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


own = asyncio.run(asked(application(TooLargeError())))
http = asyncio.run(asked(application(HTTPException(413, "too large"))))
print("an error with a handler of its own:", *own)
print("HTTPException(413):                ", *http)
assert own == (400, {"detail": "There was an error parsing the body"}), "has changed"
assert http == (413, {"detail": "too large"}), "has changed"
PYTHON
