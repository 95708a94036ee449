"""The model as a job in a thread of its own sees it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from slowfast_mllm.engine import Answer, Likelihood, Request, Ticket
from slowfast_mllm.engine.answers import OnText, split_options
from slowfast_mllm.serve.desk import Desk


class Helper:
    """The model as a job in a thread of its own sees it: given up between two looks, and its
    questions answered in the batch that all share."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._assistant = desk.assistant
        self.name = desk.assistant.name
        self.capabilities = desk.assistant.capabilities
        self.reader = desk.assistant.reader
        self._given_up = threading.Event()

    async def carry_out(self, work: Callable[[], Any]) -> Any:
        """What work in a thread returns; it ends at its next step when nobody waits any more."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._desk.workers, work)
        finally:
            self._given_up.set()

    def _go_on(self) -> None:
        if self._given_up.is_set():
            raise CancelledError

    def encode(self, video: Any, **sampling: Any) -> Any:
        self._go_on()
        return self._assistant.encode(video, **sampling)

    def encode_together(self, videos: Sequence[Any], **sampling: Any) -> Any:
        self._go_on()
        return self._assistant.encode_together(videos, **sampling)

    def keep(self, video: Any, path: Path) -> None:
        self._go_on()
        self._assistant.keep(video, path)

    def ask(
        self, video: Any, question: str, on_text: OnText | None = None, **options: Any
    ) -> Answer:
        sampling, _ = split_options(options)
        generation = {name: value for name, value in options.items() if name not in sampling}
        seen = self.encode(video, **sampling)
        (outcome,) = self.generate([Request(seen, question, on_text, generation)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def likelihoods(
        self, video: Any, question: str, answers: Sequence[str], **sampling: Any
    ) -> list[Likelihood]:
        self._go_on()
        return self._assistant.likelihoods(video, question, answers, **sampling)

    def likelihoods_each(
        self, video: Any, questions: Sequence[str], answers: Sequence[str], **sampling: Any
    ) -> list[list[Likelihood]]:
        self._go_on()
        return self._assistant.likelihoods_each(video, questions, answers, **sampling)

    def likelihoods_about(
        self, videos: Sequence[Any], question: str, answers: Sequence[str]
    ) -> list[list[Likelihood]]:
        self._go_on()
        return self._assistant.likelihoods_about(videos, question, answers)

    def generate(
        self, requests: Iterable[Request], max_batch: int = 8
    ) -> Iterator[Answer | Exception]:
        handed_in: deque[Ticket] = deque()
        try:
            for request in requests:
                self._go_on()
                handed_in.append(self._desk.answerer.submit(request))
                while handed_in and (handed_in[0].done() or len(handed_in) > max_batch):
                    yield handed_in.popleft().outcome()
            while handed_in:
                yield handed_in.popleft().outcome()
        finally:
            for ticket in handed_in:
                ticket.cancel()
