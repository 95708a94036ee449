"""`/v1/responses`: the same questions and answers in the form of OpenAI's newer API.

Nothing is kept: `store` and `previous_response_id` are for servers that keep conversations.
"""

import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Literal

from pydantic import Field

from slowfast_mllm.serve.chat import ChatRequest, Completions, Question, StreamOptions
from slowfast_mllm.serve.errors import as_api_error, wrong
from slowfast_mllm.serve.parts import Conversation


class ResponsesRequest(Question):
    """A question about a video, with the turns before it."""

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    text: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def as_chat(self) -> ChatRequest:
        """The same as a chat request.

        Raises:
            ApiError: the input is not understood.
        """
        turns: list[dict[str, Any]]
        turns = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else []
        for number, item in enumerate(self.input if isinstance(self.input, list) else []):
            if item.get("type", "message") != "message":
                place = f"input[{number}].type"
                raise wrong(f"{place}: {item['type']!r:.40} is not known here", place)
            turns.append({"role": item.get("role"), "content": item.get("content")})
        if self.instructions:
            turns.insert(0, {"role": "system", "content": self.instructions})
        same = ("model", "temperature", "top_p", "mm_processor_kwargs", "media_io_kwargs")
        return ChatRequest.model_validate(
            {
                "messages": turns,
                "max_completion_tokens": self.max_output_tokens,
                "response_format": _format((self.text or {}).get("format")),
                **{name: getattr(self, name) for name in same},
            }
        )


# As a field of a chat request begins -> what this API calls it.
_NAMES = {
    r"messages\b": "input",
    r"max_completion_tokens\b": "max_output_tokens",
    r"response_format\.json_schema\b": "text.format",
    r"response_format\b": "text.format",
}


@contextmanager
def in_its_names(body: ResponsesRequest) -> Iterator[None]:
    """What is wrong with the chat request that stands for another is told of the latter."""
    shift = 1 if body.instructions else 0  # which are the first message

    def renamed(text: str) -> str:
        place = re.match(r"messages\[(\d+)\](\.content)?", text)
        if place and int(place[1]) < shift:
            return "instructions" + text[place.end() :]
        if place:
            which, content = f"[{int(place[1]) - shift}]", place[2] or ""
            words = isinstance(body.input, str)
            return "input" + ("" if words else which + content) + text[place.end() :]
        for name, own in _NAMES.items():
            if re.match(name, text):
                return re.sub(f"^{name}", own, text)
        return text

    try:
        yield
    except Exception as error:
        told = as_api_error(error)
        told.message = renamed(told.message)
        told.param = told.param and renamed(told.param)
        raise told from error


def _format(given: Any) -> dict[str, Any] | None:
    """As chat requests have it: what belongs to a schema lies one level deeper there."""
    if not isinstance(given, dict) or given.get("type") != "json_schema":
        return given if isinstance(given, dict) else None
    return {"type": "json_schema", "json_schema": {k: v for k, v in given.items() if k != "type"}}


class Responses:
    """Answers such requests."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions

    async def whole(
        self, body: ResponsesRequest, chat: ChatRequest, said: Conversation, owner: str
    ) -> dict[str, Any]:
        """The answer to a request, when it is there."""
        head = self._head(body)
        answer = await self.completions.whole(chat, said, owner)
        choice = answer["choices"][0]
        message = _message(f"msg_{secrets.token_hex(12)}", choice["message"]["content"])
        return _ended(head, message, choice["finish_reason"], answer["usage"])

    async def events(
        self, body: ResponsesRequest, chat: ChatRequest, said: Conversation, owner: str
    ) -> AsyncIterator[dict[str, Any]]:
        """The answer to a request, event by event."""
        number = -1

        def event(kind: str, **more: Any) -> dict[str, Any]:
            nonlocal number
            number += 1
            return {"type": f"response.{kind}", "sequence_number": number, **more}

        head, name = self._head(body), f"msg_{secrets.token_hex(12)}"
        place = {"item_id": name, "output_index": 0, "content_index": 0}
        usage: dict[str, Any] = {}
        text, reason = "", "stop"
        asked = chat.model_copy(update={"stream_options": StreamOptions(include_usage=True)})
        chunks = self.completions.events(asked, said, owner)
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                if number < 0:  # the video was read
                    for kind in ("created", "in_progress"):
                        yield event(kind, response=head)
                    item = {**_message(name, ""), "status": "in_progress", "content": []}
                    yield event("output_item.added", output_index=0, item=item)
                    yield event("content_part.added", **place, part=_part(""))
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    reason = choice["finish_reason"] or reason
                    if piece := choice["delta"].get("content"):
                        text += piece
                        yield event("output_text.delta", **place, delta=piece, logprobs=[])
        text = text.strip()
        yield event("output_text.done", **place, text=text, logprobs=[])
        yield event("content_part.done", **place, part=_part(text))
        message = _message(name, text)
        yield event("output_item.done", output_index=0, item=message)
        ended = _ended(head, message, reason, usage)
        yield event(ended["status"], response=ended)

    def _head(self, body: ResponsesRequest) -> dict[str, Any]:
        return {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": self.completions.desk.assistant.name,
            "output": [],
            "usage": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "metadata": body.metadata or {},
            "temperature": body.temperature,
            "top_p": body.top_p,
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "store": False,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(name: str, text: str) -> dict[str, Any]:
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_part(text)],
    }


def _ended(
    head: dict[str, Any], message: dict[str, Any], reason: str, usage: dict[str, Any]
) -> dict[str, Any]:
    cut = reason == "length"
    return {
        **head,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [message],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }
