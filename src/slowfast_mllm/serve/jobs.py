"""`/v1/jobs/{job}`: every job of `tasks`, with its arguments and its typed result as JSON."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from slowfast_mllm.engine import DESCRIBE, Answer, Likelihood, Request, Ticket
from slowfast_mllm.serve.chat import DEFAULT_TOKENS, check_model
from slowfast_mllm.serve.desk import Desk, Thought
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.parts import conversation_of, reference_of
from slowfast_mllm.serve.shell import Body
from slowfast_mllm.serve.sources import Source
from slowfast_mllm.tasks import JOBS, result_type
from slowfast_mllm.tasks.compare import Comparison, compare_videos
from slowfast_mllm.tasks.facts import Facts
from slowfast_mllm.tasks.labels import Asked
from slowfast_mllm.tasks.reading import DENSE_FPS, DENSE_FRAMES
from slowfast_mllm.tasks.results import Clip


class Job(Body):
    """What every job is told."""

    video: str | dict[str, Any]
    """Id of an uploaded file, a URL, or a part as in a chat message."""
    model: str | None = None


class Measured(Job):
    """Measured in pixels."""

    frames_fps: float | None = None
    """The rate of frames that have no times of their own."""
    clip: bool = False


class Looking(Body):
    """Which frames are looked at."""

    num_frames: int | Literal["auto"] | None = None
    fps: float | None = None
    max_frames: int | None = None
    at: list[float] | None = None
    """Seconds."""
    start: float | None = None
    end: float | None = None
    fit: str | None = None
    frames_fps: float | None = None
    clip: bool = False

    def looking(self) -> dict[str, Any]:
        """Fields of `Sampling`."""
        return {name: getattr(self, name) for name in Looking.model_fields}


class Looked(Job, Looking):
    """A video, and which of its frames are looked at."""


class Described(Looked):
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    num_beams: Literal[1] = 1
    evidence: bool = False
    """Also tell which frames the answer read, and where in them."""
    times: bool = False
    """Tell the model in words when its frames are shown."""
    facts: str | None = None
    """What is known of the video, in words that the model is told before the question."""
    form: dict[str, Any] | None = Field(None, alias="schema")
    """A JSON Schema that the answer fits."""
    stream: bool = False
    """Server-sent events: `{"text": ...}` or `{"thought": ...}` for each piece, then
    `{"answer": ...}`, the result."""

    def request(self, seen: Any, longest: int) -> Request:
        """For the model, about what it saw of the video."""
        names = (
            *("max_new_tokens", "temperature", "top_p", "seed", "stop", "evidence"),
            *("times", "facts"),
        )
        options = {name: getattr(self, name) for name in names} | {"schema": self.form}
        return Request(seen, DESCRIBE, options=options)


class Questioned(Described):
    question: str
    messages: list[dict[str, Any]] = []
    """Turns before the question, as in a chat, in words."""

    def request(self, seen: Any, longest: int) -> Request:
        """See above."""
        turn = {"role": "user", "content": self.question}
        said = conversation_of([*self.messages, turn], longest)
        if said.media:
            raise wrong("messages: the video is named under video", "messages")
        request = super().request(seen, longest)
        return replace(request, question=said.question, earlier=said.earlier)


class Captioned(Looked):
    prompt: str = DESCRIBE
    max_words: int | None = None
    dense: bool = False
    window: float = 10.0
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)


class Chosen(Looked):
    question: str
    options: list[str] = Field(min_length=2, max_length=1000)


class Classified(Looked):
    labels: list[str | Asked] | str = Field(max_length=1000)
    """Labels, some with questions of their own, or the name of a built-in list
    (`camera-motion`)."""
    single: bool = False


class Scored(Looked):
    what: str | None = None
    question: str | None = None


class Compared(Looked):
    other: str | dict[str, Any]
    """The second video, named as `video` is."""
    question: str | None = None
    words_only: bool = False
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)


class Grounded(Looked):
    words: str
    threshold: float = 0.5


class Eventful(Looked):
    window: float = 1.0
    prompt: str = DESCRIBE
    max_new_tokens: int = Field(128, ge=1)


ARGUMENTS: dict[str, type[Job]] = {
    "ask": Questioned,
    "caption": Captioned,
    "choose": Chosen,
    "classify": Classified,
    "compare": Compared,
    "cuts": Measured,
    "describe": Described,
    "events": Eventful,
    "facts": Measured,
    "ground": Grounded,
    "score": Scored,
}
_MEASURED = ("cuts", "facts")
_WORDS = {"question", "prompt", "what", "words"}
_TASKS = {
    "choose": ("choose_answer", ("question", "options")),
    "score": ("score_video", ("what", "question")),
    "ground": ("ground_video", ("words", "threshold")),
    "events": ("find_events", ("window", "prompt", "max_new_tokens")),
}


def listed() -> list[dict[str, Any]]:
    """Each job with the JSON Schema of its arguments and of its result."""
    return [
        {
            "id": job,
            "object": "job",
            "arguments": kind.model_json_schema(),
            "result": result_type(job).model_json_schema() if job in JOBS else None,
        }
        for job, kind in ARGUMENTS.items()
    ]


class _Helper:
    """The model as a job in a thread of its own sees it: given up between two looks, and its
    questions answered in the batch that all share."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._assistant = desk.assistant
        self.name = desk.assistant.name
        self.capabilities = desk.assistant.capabilities
        self.reader = desk.assistant.reader
        self.given_up = threading.Event()

    def _go_on(self) -> None:
        if self.given_up.is_set():
            raise CancelledError

    def encode(self, video: Any, **sampling: Any) -> Any:
        self._go_on()
        return self._assistant.encode(video, **sampling)

    def encode_together(self, videos: Sequence[Any], **sampling: Any) -> Any:
        self._go_on()
        return self._assistant.encode_together(videos, **sampling)

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


class Jobs:
    """Does jobs."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def done(self, job: str, body: Any, owner: str) -> dict[str, Any]:
        """The result of a job, as JSON.

        Args:
            body: of the job's type in `ARGUMENTS`.

        Raises:
            ApiError: it cannot be done.
        """
        body = self._checked(body)
        reference = reference_of(body.video, "video")
        with self.desk.metrics.jobs.labels(job).time():
            async with self.desk.place(), self.desk.source(reference, owner) as source:
                if isinstance(body, Described):
                    return await self._answered(body, source)
                if isinstance(body, Compared):
                    second = reference_of(body.other, "other")
                    async with self.desk.source(second, owner) as other:
                        return await self._compared(body, source, other)
                return await self._worked(job, body, source)

    async def events(self, body: Described, owner: str) -> AsyncIterator[dict[str, Any]]:
        """The result of asking or describing, piece by piece."""
        body = self._checked(body)
        reference = reference_of(body.video, "video")
        async with self.desk.place(), self.desk.source(reference, owner) as source:
            request = await self._request(body, source)
            async with aclosing(self.desk.written([request])) as pieces:  # type: ignore[type-var]
                async for _, piece in pieces:
                    if isinstance(piece, str):
                        yield {"thought" if isinstance(piece, Thought) else "text": str(piece)}
                    else:
                        yield {"answer": piece.to_dict()}

    def _checked(self, body: Any) -> Any:
        """The request, with no more tokens than an answer has here where it says no number."""
        check_model(body.model, self.desk.assistant.name)
        for name in _WORDS & body.model_fields_set:
            if getattr(body, name) is not None and not getattr(body, name).strip():
                raise wrong(f"{name}: it is empty; say it in words", name, "empty_question")
        words = [
            v
            for v in body.model_dump(exclude={"video", "other"}).values()
            if isinstance(v, str | list)
        ]
        if len("".join(map(str, words))) > self.desk.settings.max_question:
            raise wrong("more words than this server reads; ask in fewer", code="question_too_long")
        most = self.desk.settings.max_tokens
        if body.model_dump().get("max_new_tokens", 0) <= most:
            return body
        if "max_new_tokens" in body.model_fields_set:
            raise wrong(f"max_new_tokens: answers here have {most} at most", "max_new_tokens")
        return body.model_copy(update={"max_new_tokens": most})

    async def _answered(self, body: Described, source: Source) -> dict[str, Any]:
        request = await self._request(body, source)
        return (await self.desk.answers([request]))[0].to_dict()

    async def _request(self, body: Described, source: Source) -> Request:
        seen = await self.desk.memories.of(source, self.desk.sampling(body.looking()))
        return body.request(seen, self.desk.settings.max_question)

    async def _worked(self, job: str, body: Any, source: Source) -> dict[str, Any]:
        helper = _Helper(self.desk)
        await self.desk.in_thread(self.desk.decoders.examine, source.path, body.clip)
        work = await self._work(job, body, source, helper)
        result = await self._carried_out(work, helper)
        video = result.video.model_copy(update={"path": source.name})
        settings = result.settings  # without what was looked at, where that was done before
        if isinstance(body, Looked):
            settings = settings | {k: v for k, v in body.looking().items() if v}
        update = {"video": video, "settings": settings}
        told: dict[str, Any] = result.model_copy(update=update).model_dump(mode="json")
        return told

    async def _carried_out(self, work: Callable[[], Any], helper: Any) -> Any:
        """What work in a thread returns; its helper is told when nobody waits any more."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.desk.workers, work)
        finally:
            helper.given_up.set()

    async def _compared(self, body: Compared, *sources: Source) -> dict[str, Any]:
        helper: Any = _Helper(self.desk)
        decoders = self.desk.decoders
        for source in sources:
            await self.desk.in_thread(decoders.examine, source.path, body.clip)

        def measuring(video: str, **how: Any) -> Facts:
            return Facts.model_validate(decoders.measure("facts", video, **how))

        options: dict[str, Any] = self.desk.sampling(body.looking())
        options |= body.model_dump(include={"question", "words_only", "max_new_tokens"})
        one, other = (source.path for source in sources)

        def work() -> Comparison:
            return compare_videos(helper, one, other, measuring=measuring, **options)

        result = await self._carried_out(work, helper)
        return _renamed(result, {source.path: source.name for source in sources}).model_dump(
            mode="json"
        )

    async def _work(self, job: str, body: Any, source: Source, helper: Any) -> Callable[[], Any]:
        """What is to be done in a thread."""
        from slowfast_mllm import tasks

        decoders = self.desk.decoders
        if job in _MEASURED:
            how = {"frames_fps": body.frames_fps, "clip": body.clip}
            kind = result_type(job)
            return lambda: kind.model_validate(decoders.measure(job, source.path, **how))
        sampling = self.desk.sampling(body.looking())
        if job == "caption":
            fields = body.model_dump(
                include={"prompt", "max_words", "dense", "window", "max_new_tokens"}
            )
            captioning = tasks.Captioning(**fields, sampling=sampling)
            return lambda: tasks.caption_video(helper, source.path, captioning)
        if job == "classify":
            labels: Any = body.labels
            if isinstance(labels, str):
                if labels != "camera-motion":
                    raise wrong("labels: give a list, or camera-motion", "labels")
                labels = tasks.read_labels(labels)
            seen = await self.desk.memories.of(source, sampling)
            return lambda: tasks.classify_video(helper, seen, labels, body.single)
        function, names = _TASKS[job]
        task = getattr(tasks, function)
        arguments = {name: getattr(body, name) for name in names}
        if job in ("choose", "score"):
            seen = await self.desk.memories.of(source, sampling)
            return lambda: task(helper, seen, **arguments)
        most = self.desk.settings.max_frames
        if most < DENSE_FRAMES and not {"num_frames", "fps", "at"} & sampling.keys():
            sampling |= {"fps": DENSE_FPS, "max_frames": most}
        return lambda: task(helper, source.path, **arguments, **sampling)


def _renamed(result: Comparison, names: Mapping[str, str]) -> Comparison:
    """With the names that users gave to their files."""

    def clip(told: Clip) -> Clip:
        return told.model_copy(update={"path": names.get(told.path, told.path)})

    warnings = list(result.warnings)
    for path, name in names.items():
        warnings = [warning.replace(path, name) for warning in warnings]
    facts = result.facts and [f.model_copy(update={"video": clip(f.video)}) for f in result.facts]
    update = {"video": clip(result.video), "other": clip(result.other)}
    return result.model_copy(update={**update, "warnings": warnings, "facts": facts})


def arguments_of(job: str) -> type[Job]:
    """The type of a job's arguments.

    Raises:
        ApiError: there is no such job.
    """
    if job not in ARGUMENTS:
        raise ApiError(
            404, f"{job!r:.60}: no such job; known are {', '.join(ARGUMENTS)}", "job_not_found"
        )
    return ARGUMENTS[job]
