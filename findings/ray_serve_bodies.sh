#!/usr/bin/env bash
# Ray Serve 2.60 takes in a whole request body whether or not the application reads it.
#
# An ASGI application asks for pieces of a body one by one (`receive`). Behind uvicorn alone, one that
# stops asking stops its client: what is under way fits the sockets' buffers, some MB. The same application in a Ray Serve
# deployment is sent everything at once: Serve's proxy (a uvicorn, too) hands on what comes without
# waiting, so that a body that is still being refused, or written to a slow disk, lies in the memory
# of the proxy and of the replica. Sizes of uploads are sizes of those processes.
#
# Needs: bash, python3 (3.11), a network to install from; about 1 GB in a temporary folder. Three minutes.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q 'ray[serve]==2.60.0' 'uvicorn>=0.30' 2>/dev/null
export RAY_TMPDIR=$here RAY_USAGE_STATS_ENABLED=0
cat > "$here/idle_app.py" <<'PYTHON'
import asyncio


class IdleApp:
    """Reads one piece of a body, waits, and answers."""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":  # begins and ends
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        await receive()
        await asyncio.sleep(6)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


idle_app = IdleApp()
PYTHON
cat > "$here/measure.py" <<'PYTHON'
import socket
import subprocess
import sys
import time

import ray
from ray import serve

from idle_app import idle_app

BODY = 200_000_000


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def taken(port: int) -> int:
    """Bytes of a body that can be sent within 4 seconds."""
    until = time.monotonic() + 60
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=1)
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.2)
    with client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % BODY
        )
        sent, until = 0, time.monotonic() + 4
        client.settimeout(0.2)
        while sent < BODY and time.monotonic() < until:
            try:
                sent += client.send(bytes(min(1 << 20, BODY - sent)))
            except TimeoutError:
                pass
    return sent


port = free_port()
alone = subprocess.Popen(
    [sys.executable, "-m", "uvicorn", "idle_app:idle_app", "--port", str(port)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
by_uvicorn = taken(port)
alone.terminate()
alone.wait()

port = free_port()
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": port})


class Idle:
    pass


serve.run(serve.deployment(serve.ingress(idle_app)(Idle)).bind())
by_serve = taken(port)
serve.shutdown()
ray.shutdown()

print(f"ray {ray.__version__}")
print(f"uvicorn alone took {by_uvicorn:,} bytes of {BODY:,} from an application that reads one piece")
print(f"Ray Serve took     {by_serve:,}")
sys.exit(not (by_uvicorn < BODY // 10 and by_serve == BODY))
PYTHON
cd "$here"
export PYTHONPATH=$here
RAY_AUTH_MODE=disabled "$here/venv/bin/python" measure.py 2> "$here/log" || { tail -5 "$here/log"; echo "changed"; exit 1; }
