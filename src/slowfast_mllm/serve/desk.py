"""The desk at which requests wait, and the model behind it that answers them together."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from slowfast_mllm.engine import (
    DESCRIBE,
    Answer,
    Assistant,
    Batcher,
    MemoryCache,
    Request,
    Sampling,
    Ticket,
)
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.serve.decoders import Decoders
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.memories import Memories
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.serve.sources import Source, Sources
from slowfast_mllm.video import VideoError
from slowfast_mllm.video.names import short_name


class _Answerer(Protocol):
    """What takes requests in: a running batch, or one that answers them in turn."""

    def submit(self, request: Request) -> Ticket: ...
    def close(self) -> None: ...


class _InTurn:
    """Answers requests one after the other, with a model that has no running batch."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slowfast-in-turn")

    def submit(self, request: Request) -> Ticket:
        ticket = Ticket()
        self._thread.submit(self._answer, request, ticket)
        return ticket

    def _answer(self, request: Request, ticket: Ticket) -> None:
        def told(text: str) -> None:
            if ticket.done():
                raise CancelledError
            if request.on_text is not None:
                request.on_text(text)

        if ticket.done():
            return
        try:
            (outcome,) = self.assistant.generate([replace(request, on_text=told)], 1)
        except Exception as error:  # whatever it was, nobody may wait for ever
            outcome = error
        if isinstance(outcome, Answer):
            ticket.succeed(outcome)
        else:
            ticket.fail(outcome)

    def close(self) -> None:
        self._thread.shutdown()


class _Batch(Batcher):
    """The running batch, as long as the server runs."""

    def close(self) -> None:
        """After what was handed in is answered."""
        self.__exit__(None)


class Thought(str):
    """A piece of what a model thinks before it answers."""


class Desk:
    """Takes requests in, as many as there is room for, and has them answered."""

    def __init__(
        self, assistant: Assistant, settings: Settings, sources: Sources, metrics: Metrics
    ) -> None:
        self.assistant = assistant
        self.settings = settings
        self.sources = sources
        self.metrics = metrics
        self.closing = False
        self._in_house = 0
        self._seconds = 1.0  # that a request takes, lately
        self._readers = ThreadPoolExecutor(settings.decoders, thread_name_prefix="slowfast-read")
        self.workers = ThreadPoolExecutor(2, thread_name_prefix="slowfast-job")
        self.decoders = Decoders(settings, metrics)
        self.memories = Memories(assistant, self.decoders, self._readers, settings.memory, metrics)
        if isinstance(assistant, LoadedModel):  # others' ways to fit pictures stay in this process
            self._cache = assistant.cache
            assistant.cache = MemoryCache(settings.place / "memories", settings.memory_on_disk)
            assistant.reader = Reader(self.decoders.read_video, self.decoders.probe_video)
        self.answerer: _Answerer = (
            _Batch(assistant, settings.max_batch, metrics.batches.observe)
            if isinstance(assistant, LoadedModel)
            else _InTurn(assistant)
        )

    def warm_up(self) -> None:
        """Answer a question about a grey clip: the first of a process takes longer than others."""
        grey = np.full((2, 64, 64, 3), 128, np.uint8)
        options = {"max_new_tokens": 2, "num_frames": 2, "frames_fps": 1.0}
        self.answerer.submit(Request(grey, DESCRIBE, options=options)).outcome()

    def close(self) -> None:
        """Finish what runs, and end."""
        self.closing = True
        self._readers.shutdown(cancel_futures=True)
        self.workers.shutdown(cancel_futures=True)
        self.answerer.close()
        self.assistant.reader = Reader()
        if isinstance(self.assistant, LoadedModel):
            self.assistant.cache = self._cache
        self.decoders.close()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the house for one request, until its deadline.

        Raises:
            ApiError: the house is full or closes, or the request took too long.
        """
        if self.closing:
            raise ApiError(503, "the server is shutting down; ask again later", "closing")
        if self._in_house >= self.settings.max_waiting:
            self.metrics.refused.inc()
            seconds = self._seconds * self._in_house / self.settings.max_batch
            raise ApiError(
                429,
                f"{self._in_house} requests are in the house, as many as it holds; try again later",
                "busy",
                headers={"Retry-After": str(max(1, round(seconds)))},
            )
        self._in_house += 1
        self.metrics.in_house.set(self._in_house)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.deadline):
                yield
            self._seconds += (time.monotonic() - began - self._seconds) / 8
        except TimeoutError as error:
            raise ApiError(
                504,
                f"not done within {self.settings.deadline:g} s; ask for less, or try again when "
                "the server is less busy",
                "deadline",
            ) from error
        finally:
            self._in_house -= 1
            self.metrics.in_house.set(self._in_house)

    @asynccontextmanager
    async def source(self, reference: str, owner: str) -> AsyncIterator[Source]:
        """See `Sources.open`; errors about it call it as the client does."""
        async with self.sources.open(reference, owner) as source:
            with calling_it(source):
                yield source

    def sampling(self, given: dict[str, Any]) -> dict[str, Any]:
        """Fields of `Sampling`, as far as the operator allows.

        Raises:
            ApiError: more frames are asked for.
        """
        most = self.settings.max_frames
        wanted = {name: v for name, v in given.items() if v is not None and v is not False}
        counts = {name: wanted.get(name) for name in ("num_frames", "max_frames")}
        counts["at"] = len(wanted.get("at", ()))
        for name, count in counts.items():
            if isinstance(count, int) and count > most:
                raise wrong(f"{name}: {count}, and this server looks at {most} frames", name)
        Sampling(**wanted)
        if "fps" in wanted or wanted.get("num_frames") == "auto":
            wanted.setdefault("max_frames", most)
        return wanted

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns that waits for a decoding process."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    async def answers(self, requests: list[Request]) -> list[Answer]:
        """Have requests answered, in their order."""
        found: dict[int, Answer] = {}
        async with aclosing(self.written(requests)) as pieces:  # type: ignore[type-var]
            async for index, piece in pieces:
                if isinstance(piece, Answer):
                    found[index] = piece
        return [found[index] for index in range(len(requests))]

    async def written(self, requests: list[Request]) -> AsyncIterator[tuple[int, str | Answer]]:
        """Have requests answered; who gives up waiting frees their places in the batch.

        Yields:
            The place of a request and the next piece of its answer, or all of it at its end.

        Raises:
            Exception: whatever made one of them fail, e.g. a `ValueError`.
        """
        pieces: asyncio.Queue[tuple[int, str | Ticket]] = asyncio.Queue()
        tickets = [self._submit(index, request, pieces) for index, request in enumerate(requests)]
        left = len(tickets)
        try:
            while left:
                index, piece = await pieces.get()
                if isinstance(piece, str):
                    yield index, piece
                    continue
                left -= 1
                answer = piece.result()
                self._count(answer)
                yield index, answer
        except CancelledError as error:  # not by who asked
            raise ApiError(
                503, "the server is shutting down; ask again later", "closing"
            ) from error
        finally:
            for ticket in tickets:
                ticket.cancel()

    def _submit(
        self, index: int, request: Request, pieces: "asyncio.Queue[tuple[int, str | Ticket]]"
    ) -> Ticket:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        is_first = True

        def put(piece: str | Ticket) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(pieces.put_nowait, (index, piece))

        def on_text(text: str) -> None:
            nonlocal is_first
            if is_first:
                self.metrics.first.observe(time.perf_counter() - began)
                is_first = False
            put(text)

        options = {**request.options, "on_thought": lambda text: put(Thought(text))}
        ticket = self.answerer.submit(replace(request, on_text=on_text, options=options))
        ticket.when_done(lambda: put(ticket))
        return ticket

    def _count(self, answer: Answer) -> None:
        count = int(answer.timing["tokens"])
        self.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(count)
        if count > 1:
            self.metrics.token.observe(answer.timing["decode"] / (count - 1))


@contextmanager
def calling_it(source: Source) -> Iterator[None]:
    """What is wrong with a video is told without where it lies on the server."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for name in (source.path, short_name(source.path)):
            text = text.replace(name, source.name)
        code = "invalid_video" if isinstance(error, VideoError) else "invalid_value"
        raise wrong(text, code=code) from error
