"""A server in a thread, and what it is asked."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from slowfast_mllm.serve.app import create_app
from slowfast_mllm.serve.connections import impatient
from slowfast_mllm.serve.settings import Settings

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"


@contextmanager
def serving(assistant: Any, place: Path, **settings: Any) -> Iterator[tuple[str, Any]]:
    """The address of a server that runs meanwhile, and what belongs to it."""
    app = create_app(assistant, replace(Settings(place=place), **settings))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        http = impatient(app.state.house.settings.body_seconds)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", http=http))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port}", app.state.house
        finally:
            server.should_exit = True
            thread.join()


def asking(question: str, video: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    content = [
        {"type": "video_url", "video_url": {"url": video}},
        {"type": "text", "text": question},
    ]
    return {"model": "default", "messages": [{"role": "user", "content": content}], **more}
