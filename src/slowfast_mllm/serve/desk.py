"""The desk at which requests wait, and the model behind it that answers them together."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Protocol

from slowfast_mllm.engine import Answer, Assistant, Batcher, Request, Ticket
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.memories import Memories
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.serve.sources import Source, Sources
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
        (outcome,) = self.assistant.generate([replace(request, on_text=told)], 1)
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
        self.memories = Memories(assistant, self._readers, settings.memory, metrics)
        self.answerer: _Answerer = (
            _Batch(assistant, settings.max_batch)
            if isinstance(assistant, LoadedModel)
            else _InTurn(assistant)
        )

    def close(self) -> None:
        """Finish what runs, and end."""
        self.closing = True
        self._readers.shutdown(cancel_futures=True)
        self.workers.shutdown(cancel_futures=True)
        self.answerer.close()

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
        wanted = {name: value for name, value in given.items() if value not in (None, False)}
        for name in ("num_frames", "max_frames"):
            if isinstance(wanted.get(name), int) and wanted[name] > most:
                raise wrong(
                    f"{name}={wanted[name]}: this server looks at {most} frames at most", name
                )
        if "fps" in wanted or wanted.get("num_frames") == "auto":
            wanted.setdefault("max_frames", most)
        return wanted

    async def answer(self, request: Request) -> Answer:
        """Have a request answered; who gives up waiting frees its place in the batch.

        Raises:
            Exception: whatever made it fail, e.g. a `ValueError`.
        """
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        ticket = self.answerer.submit(request)
        ticket.when_done(wake)
        try:
            await done.wait()
        finally:
            if not ticket.done():
                ticket.cancel()
        answer = ticket.result()
        self._count(answer)
        return answer

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
        raise wrong(text, code="invalid_video") from error
