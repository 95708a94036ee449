"""Answers that come piece by piece, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from slowfast_mllm.serve.errors import ApiError, as_api_error
from slowfast_mllm.serve.guard import unless_gone

DONE = "data: [DONE]\n\n"


async def event_stream(
    request: Request, events: AsyncIterator[dict[str, Any]]
) -> StreamingResponse:
    """Send events as they come; they are given up when the client goes away.

    What fails before the first event is answered with its own status, what fails later comes as the
    last event.

    Raises:
        ApiError: there was no first event.
    """
    pieces: asyncio.Queue[dict[str, Any] | ApiError | None] = asyncio.Queue()

    async def produce() -> None:
        try:
            async with aclosing(events) as coming:  # type: ignore[type-var]
                async for event in coming:
                    pieces.put_nowait(event)
        except Exception as error:
            pieces.put_nowait(as_api_error(error))
        pieces.put_nowait(None)

    task = asyncio.create_task(produce())
    try:
        first = await unless_gone(request, pieces.get())
        if isinstance(first, ApiError):
            raise first
    except BaseException:
        task.cancel()
        raise

    async def told() -> AsyncIterator[str]:
        try:
            piece = first
            while piece is not None:
                event = piece.body() if isinstance(piece, ApiError) else piece
                kind = f"event: {event['type']}\n" if "type" in event else ""
                yield f"{kind}data: {json.dumps(event, ensure_ascii=False)}\n\n"
                piece = await pieces.get()
            yield DONE
        finally:
            task.cancel()

    return StreamingResponse(
        told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )
