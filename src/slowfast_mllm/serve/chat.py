"""`/v1/chat/completions`: questions about videos in OpenAI's form, whole or word by word."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from pydantic import Field, model_validator

from slowfast_mllm.engine import Answer, Request, TokenScore
from slowfast_mllm.engine.answers import split_options
from slowfast_mllm.serve.desk import Desk, Thought
from slowfast_mllm.serve.elsewhere import without_elsewhere
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.parts import Conversation, conversation_of
from slowfast_mllm.serve.shell import Body

DEFAULT_TOKENS = 256


class Question(Body):
    """A request in OpenAI's form, some of which is done elsewhere."""

    @model_validator(mode="before")
    @classmethod
    def _here(cls, given: Any) -> Any:
        return without_elsewhere(given)


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Question):
    """A question about a video, with the turns before it."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    """0, the default, takes the likeliest words."""
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**62)
    stop: str | list[str] | None = None
    n: int | None = Field(1, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    """As vLLM takes them: `num_frames` or `fps`; here also `start`, `end`, `frames_fps`, `fit` and
    `clip`."""
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    """As vLLM takes them: `{"video": {"num_frames": 32}}`."""
    evidence: bool = False
    """Also tell which frames the answer read, and where in them, under `slowfast.evidence`."""
    times: bool = False
    """Tell the model in words when its frames are shown."""
    facts: str | None = Field(None, max_length=10_000)
    """What is known of the video, in words that the model is told before the question."""
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None

    def looking(self) -> dict[str, Any]:
        """Fields of `Sampling`."""
        wanted = {
            **(self.media_io_kwargs or {}).get("video", {}),
            **(self.mm_processor_kwargs or {}),
        }
        unknown = wanted.keys() - {"num_frames", "fps", "start", "end", "frames_fps", "fit", "clip"}
        if unknown:
            name = min(unknown)
            raise wrong(f"{name}: not known here; say num_frames, fps, start, end or fit", name)
        return wanted

    def options(self, most: int) -> dict[str, Any]:
        """Fields of `Generation`.

        Raises:
            ApiError: an answer may not be so long.
        """
        count = self.max_completion_tokens or self.max_tokens or min(DEFAULT_TOKENS, most)
        if count > most:
            name = "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
            raise wrong(f"{name}={count}: answers here have {most} tokens at most", name)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > 16 or any(len(end) > 200 for end in stop):
            raise wrong("stop: at most 16 strings of 200 characters", "stop")
        options: dict[str, Any] = {"max_new_tokens": count, "stop": stop}
        if self.temperature:
            options |= {"temperature": self.temperature}
            options |= {"top_p": 1.0 if self.top_p is None else self.top_p}
        if self.logprobs:
            options |= {"return_scores": True, "top_scores": self.top_logprobs or 0}
        elif self.top_logprobs:
            raise wrong("top_logprobs: needs logprobs=true", "top_logprobs")
        if self.evidence:
            options["evidence"] = True
        options |= {"times": self.times, "facts": self.facts}
        schema = self.schema_of_answer()
        return options if schema is None else {**options, "schema": schema}

    def schema_of_answer(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer must fit; None: it is free.

        Raises:
            ApiError: the format is not known, or holds no schema.
        """
        wanted = self.response_format or {"type": "text"}
        if wanted.get("type") == "text":
            return None
        if wanted.get("type") == "json_object":
            return {"type": "object"}
        if wanted.get("type") != "json_schema":
            raise wrong(
                f"response_format.type: {wanted.get('type')!r:.40} is not known here; use text, "
                "json_object or json_schema",
                "response_format",
            )
        named = wanted.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if not isinstance(schema, dict):
            raise wrong("response_format.json_schema.schema: give a schema", "response_format")
        return schema


class Completions:
    """Answers chat requests."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def check(self, body: ChatRequest) -> Conversation:
        """What is asked, before anything is read.

        Raises:
            ApiError: it cannot be answered.
        """
        settings = self.desk.settings
        check_model(body.model, self.desk.assistant.name)
        said = conversation_of(body.messages, settings.max_question)
        if (body.n or 1) > settings.max_choices:
            raise wrong(f"n={body.n}: at most {settings.max_choices} answers", "n")
        several = self.desk.assistant.capabilities.several_videos
        if not said.media or (len(said.media) > 1 and not several):
            raise _wrong_count(len(said.media), several)
        self.desk.sampling(body.looking())
        split_options(body.options(settings.max_tokens))
        return said

    async def whole(self, body: ChatRequest, said: Conversation, owner: str) -> dict[str, Any]:
        """The answer to a request, when it is there."""
        head = _head("chat.completion", self.desk.assistant.name)
        async with AsyncExitStack() as stack:
            seen = await self._looked_at(stack, body, said, owner)
            answers = await self.desk.answers(self._requests(body, said, seen))
        choices = [
            {
                "index": index,
                "message": _message(answer),
                "logprobs": _logprobs(answer),
                "finish_reason": _reason(answer),
            }
            for index, answer in enumerate(answers)
        ]
        return {
            **head,
            "choices": choices,
            "usage": usage(answers, seen),
            "slowfast": told(answers, seen),
        }

    async def events(
        self, body: ChatRequest, said: Conversation, owner: str
    ) -> AsyncIterator[dict[str, Any]]:
        """The answer to a request, chunk by chunk."""
        head = _head("chat.completion.chunk", self.desk.assistant.name)
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        if wants_usage:
            head["usage"] = None

        def chunk(index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            return {**head, "choices": [choice | more]}

        async with AsyncExitStack() as stack:
            seen = await self._looked_at(stack, body, said, owner)
            requests = self._requests(body, said, seen)
            answers: dict[int, Answer] = {}
            for index in range(len(requests)):
                yield chunk(index, {"role": "assistant", "content": ""})
            written = await stack.enter_async_context(aclosing(self.desk.written(requests)))  # type: ignore[type-var]
            async for index, piece in written:
                if isinstance(piece, str):
                    key = "reasoning_content" if isinstance(piece, Thought) else "content"
                    yield chunk(index, {key: str(piece)})
                    continue
                answers[index] = piece
                last = chunk(index, {}, finish_reason=_reason(piece), logprobs=_logprobs(piece))
                if len(answers) == len(requests):
                    last["slowfast"] = told([answers[i] for i in range(len(requests))], seen)
                yield last
        if wants_usage:
            yield {**head, "choices": [], "usage": usage(list(answers.values()), seen)}

    async def _looked_at(
        self, stack: AsyncExitStack, body: ChatRequest, said: Conversation, owner: str
    ) -> Any:
        await stack.enter_async_context(self.desk.place())
        desk, wanted = self.desk, self.desk.sampling(body.looking())
        seen = []
        for name in said.media:
            source = await stack.enter_async_context(desk.source(name, owner))
            seen.append(await desk.memories.of(source, wanted))
        if len(seen) == 1:
            return seen[0]
        return await desk.in_thread(desk.assistant.encode_together, seen)

    def _requests(self, body: ChatRequest, said: Conversation, seen: Any) -> list[Request]:
        """One for each choice; with a seed, each is drawn from another."""
        options = body.options(self.desk.settings.max_tokens)
        seeds = [{} if body.seed is None else {"seed": body.seed + i} for i in range(body.n or 1)]
        return [
            Request(seen, said.question, None, {**options, **seed}, said.earlier) for seed in seeds
        ]


def _wrong_count(count: int, several: bool) -> ApiError:
    told = f"{'at least ' if several else ''}one video or picture, a part of type video_url or "
    told += f"image_url; these have {count or 'none'}"
    if count:
        told += ": ask about each by itself, or have two compared (POST /v1/jobs/compare)"
    code = "unsupported_media_count"
    return wrong(f"messages: a conversation is about {told}", "messages", code)


def check_model(asked: str | None, name: str) -> None:
    """Whether a model is this server's; clients that must name some may leave it empty.

    Raises:
        ApiError: it is another.
    """
    if asked not in (None, "", "default") and not is_called(asked, name):
        error = wrong(f"{asked!r:.100}: no such model; this server has {name}", "model")
        error.status, error.code = 404, "model_not_found"
        raise error


def is_called(asked: str, name: str) -> bool:
    """Whether a model's name was meant; what stands after it in parentheses may be left out."""
    return asked in (name, name.partition(" (")[0])


def usage(answers: list[Answer], seen: Any) -> dict[str, Any]:
    """Tokens of the prompt, its visual ones among them, and of the answers."""
    prompt = answers[0].prompt_tokens
    completion = sum(int(answer.timing["tokens"]) for answer in answers)
    memory = getattr(seen, "memory", None)
    visual = {} if memory is None else {"video_tokens": len(memory.fast_tokens)}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **visual},
    }


def told(answers: list[Answer], seen: Any) -> dict[str, Any]:
    """What this server tells beside the API: the video, the frames that were looked at, seconds;
    with evidence, how pictures were fitted, as its cells lie on those."""
    facts = answers[0].to_dict()
    beside = {k: v for k, v in facts.items() if k not in ("answer", "model", "scores")}
    return {**beside, **({"fit": seen.fit} if answers[0].evidence else {})}


def _message(answer: Answer) -> dict[str, Any]:
    """What was thought before comes where vLLM puts it."""
    thought = {} if answer.thought is None else {"reasoning_content": answer.thought}
    return {"role": "assistant", "content": answer.text, "refusal": None, **thought}


def _reason(answer: Answer) -> str:
    return "length" if answer.truncated or answer.problem else "stop"


def _logprobs(answer: Answer) -> dict[str, Any] | None:
    if answer.scores is None:
        return None
    scores = answer.scores
    if not answer.truncated and scores and scores[-1].text not in answer.text:
        scores = scores[:-1]  # the token that ended it
    content = [
        {**_token(score), "top_logprobs": [_token(other) for other in score.likeliest]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _token(score: TokenScore) -> dict[str, Any]:
    text = score.text
    return {"token": text, "logprob": score.log_probability, "bytes": list(text.encode())}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": None,
    }
