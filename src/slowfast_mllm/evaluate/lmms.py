"""Sits the examinations of a harness of benchmarks (lmms-eval), and keeps the protocol of them.

Nothing of the harness is imported here: its requests, read by `lmms_requests`, are `Talk`s and
`Weighed`. Each video is encoded once for all questions about it, which go through the running
batch.
"""

import math
import platform
import statistics
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import groupby
from typing import Any

from slowfast_mllm.engine import Answer, Likelihood, Request
from slowfast_mllm.engine.protocol import Assistant
from slowfast_mllm.evaluate.side_by_side import one_line

# In the place of an answer that failed: no letter of a choice can be read out of it.
FAILED = "[?]"
_WINDOW = 1024  # requests that are put in the order of their videos
_VERSIONS = ("slowfast-mllm", "torch", "transformers", "av")


@dataclass(frozen=True)
class Clip:
    """What a question is about.

    Attributes:
        source: a path, or a tuple of pictures.
        start, end: bounds in seconds.
    """

    source: Any
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Asked:
    """One question of a task.

    Attributes:
        clips: what it is about; several together, where the model takes them.
        earlier: messages before it; see `Request`.
    """

    clips: tuple[Clip, ...]
    question: str
    earlier: tuple[Mapping[str, str], ...] = ()

    @property
    def video(self) -> Hashable:
        """The same for questions about the same; pictures are told apart by who they are."""
        return tuple(
            (c.source if isinstance(c.source, str) else tuple(map(id, c.source)), c.start, c.end)
            for c in self.clips
        )


@dataclass(frozen=True)
class Talk:
    """A request for an answer, or for several of which each question may depend on those before.

    Attributes:
        options: fields of `Generation`.
        rounds: yields questions, and is sent the answer to each.
    """

    task: str
    doc_id: Any
    options: Mapping[str, Any]
    rounds: Generator[Asked, str | None, None]


@dataclass(frozen=True)
class Weighed:
    """A request for how likely an answer is that it gives; `read` is called once."""

    task: str
    doc_id: Any
    read: Callable[[], tuple[Asked, str]]


@dataclass
class _Task:
    """What is told of a task: its counts, and the first of its questions as it was put."""

    requests: int = 0
    failed: int = 0
    prompt: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Examinee:
    """A model in an examination.

    Attributes:
        failures: task, doc_id and error of each request without an answer.
    """

    def __init__(
        self,
        assistant: Assistant,
        max_batch: int = 8,
        on_answer: Callable[[dict[str, Any]], None] = lambda told: None,
        **sampling: Any,
    ) -> None:
        """
        Args:
            max_batch: questions that are answered together.
            on_answer: called with task, doc_id, question and answer (or error) of each request as
                it is done.
            sampling: `num_frames` or `fps` of all videos; None: as the model was made.
        """
        self.assistant = assistant
        self.max_batch = max_batch
        self.sampling = {name: value for name, value in sampling.items() if value is not None}
        self.failures: list[dict[str, Any]] = []
        self._on_answer = on_answer
        self._tasks: dict[str, _Task] = {}
        self._memories = _Memories(assistant, self.sampling, most=max(2, max_batch))

    # ---- questions -----------------------------------------------------------------------------

    def converse(self, talks: Sequence[Talk], several_rounds: bool = False) -> list[list[str]]:
        """The answers to each request's questions; `FAILED` is the last of one that fails."""
        # Of more requests than are answered together, later rounds would find no video at hand.
        size = self.max_batch if several_rounds else _WINDOW
        said: list[list[str]] = []
        for first in range(0, len(talks), size):
            said += self._converse(talks[first : first + size])
        return said

    def _converse(self, talks: Sequence[Talk]) -> list[list[str]]:
        said: list[list[str]] = [[] for _ in talks]
        last: dict[int, str | None] = dict.fromkeys(range(len(talks)))
        for talk in talks:
            self._task(talk.task).requests += 1
        while last:
            asked: dict[int, Asked] = {}
            for place, answer in last.items():
                try:
                    asked[place] = talks[place].rounds.send(answer)
                except StopIteration:
                    continue
                except (Exception, SystemExit) as error:  # tasks leave so when a file is missing
                    said[place].append(self._fail(talks[place], None, error))
            last = {}
            for place, outcome in self._outcomes(talks, asked):
                if isinstance(outcome, Exception):
                    said[place].append(self._fail(talks[place], asked[place], outcome))
                    continue
                said[place].append(outcome.text)
                self._tell(talks[place], asked[place], answer=outcome.text)
                last[place] = outcome.text
        return said

    def _outcomes(
        self, talks: Sequence[Talk], asked: Mapping[int, Asked]
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """Of each question by its place, in the order of the videos."""
        failed: dict[int, Exception] = {}
        handed_in: list[int] = []

        def requests() -> Iterator[Request]:
            for place, video in self._by_video(asked):
                options = dict(talks[place].options)
                self._remember(talks[place].task, asked[place], options)
                if isinstance(video, Exception):
                    failed[place] = video
                else:
                    handed_in.append(place)
                    one = asked[place]
                    yield Request(video, one.question, options=options, earlier=one.earlier)

        answers = self.assistant.generate(requests(), self.max_batch)
        for number, outcome in enumerate(answers):
            if isinstance(outcome, Answer) and outcome.problem is not None:
                outcome = ValueError(outcome.problem)
            yield handed_in[number], outcome
        yield from failed.items()

    def _by_video(self, asked: Mapping[int, Asked]) -> Iterator[tuple[int, Any]]:
        """Each place with its encoded video, or why there is none; the next is read meanwhile."""
        groups: dict[Hashable, list[int]] = {}
        for place, one in asked.items():
            groups.setdefault(one.video, []).append(place)
        order = list(groups.values())
        for number, places in enumerate(order):
            video = self._memories.begin(asked[places[0]])
            for following in order[number + 1 : number + 2]:
                self._memories.begin(asked[following[0]])
            encoded = video.exception() or video.result()
            for place in places:
                yield place, encoded

    # ---- likelihoods ---------------------------------------------------------------------------

    def weigh(self, requests: Sequence[Weighed]) -> list[tuple[float, bool]]:
        """The loss of each given answer (minus the logarithm of a token's probability, the mean of
        them), and whether it is what the model would say; (inf, False) where that failed.

        The harness asks for log likelihoods, and takes the choice of least loss.
        """
        asked: dict[int, Asked] = {}
        answers: dict[int, str] = {}
        for place, request in enumerate(requests):
            self._task(request.task).requests += 1
            try:
                asked[place], answers[place] = request.read()
            except (Exception, SystemExit) as error:
                self._fail(request, None, error)
        found: dict[int, tuple[float, bool]] = {}
        by_question = groupby(
            self._by_video(asked), key=lambda pair: (asked[pair[0]].video, asked[pair[0]].question)
        )
        for _, group in by_question:
            places, videos = zip(*group, strict=True)
            self._remember(requests[places[0]].task, asked[places[0]], {})
            given = [answers[place] for place in places]
            outcome = self._likelihoods(asked[places[0]], videos[0], given)
            for number, place in enumerate(places):
                if isinstance(outcome, Exception):
                    self._fail(requests[place], asked[place], outcome)
                    continue
                likelihood = outcome[number]
                found[place] = (-likelihood.per_token, likelihood.greedy)
                told = {"given": answers[place], "loss": -likelihood.per_token}
                self._tell(requests[place], asked[place], **told)
        return [found.get(place, (math.inf, False)) for place in range(len(requests))]

    def _likelihoods(
        self, asked: Asked, video: Any, answers: Sequence[str]
    ) -> list[Likelihood] | Exception:
        if isinstance(video, Exception):
            return video
        try:
            return self.assistant.likelihoods(video, asked.question, answers)
        except Exception as error:
            return error.with_traceback(None)

    # ---- the protocol --------------------------------------------------------------------------

    def _task(self, name: str) -> _Task:
        return self._tasks.setdefault(name, _Task())

    def _remember(self, name: str, asked: Asked, options: dict[str, Any]) -> None:
        """The first question of a task, as it was put."""
        task = self._task(name)
        if task.prompt is None:
            task.prompt, task.options = asked.question, options

    def _fail(self, request: Talk | Weighed, asked: Asked | None, error: BaseException) -> str:
        words = one_line(error)
        self._task(request.task).failed += 1
        self.failures.append({"task": request.task, "doc_id": request.doc_id, "error": words})
        self._tell(request, asked, error=words)
        return FAILED

    def _tell(self, request: Talk | Weighed, asked: Asked | None, **told: Any) -> None:
        question = None if asked is None else asked.question
        about = {"task": request.task, "doc_id": request.doc_id, "question": question}
        self._on_answer({**about, **told})

    def protocol(self) -> dict[str, Any]:
        """How the scores came about, as JSON types: what is to be told beside them."""
        counts, rates = self._memories.num_frames, self._memories.rates
        looked: dict[str, Any] = {"videos": len(counts)}
        if counts:
            looked |= {"fewest": min(counts), "most": max(counts)}
            looked["median"] = round(statistics.median(counts))
        if rates:
            looked["median_fps"] = round(statistics.median(rates), 3)
        return {
            "model": self.assistant.name,
            "frames": {"asked_for": self.sampling or "as the model was made", "looked_at": looked},
            "max_batch": self.max_batch,
            "tasks": {name: asdict(task) for name, task in self._tasks.items()},
            "failures": list(self.failures),
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in _VERSIONS},
            },
        }


class _Memories:
    """The videos that were asked about last, encoded in a thread of its own.

    Attributes:
        num_frames: that were looked at, of each video as often as it was encoded.
        rates: frames a second of those with two and more.
    """

    def __init__(self, assistant: Assistant, sampling: dict[str, Any], most: int) -> None:
        self.num_frames: list[int] = []
        self.rates: list[float] = []
        self._assistant = assistant
        self._sampling = sampling
        self._most = most
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="slowfast-examination")

    def begin(self, asked: Asked) -> "Future[Any]":
        """What a question is about, encoded, or soon to be."""
        if asked.video not in self._kept:
            self._kept[asked.video] = self._reader.submit(self._encode, asked.clips)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(asked.video)
        return self._kept[asked.video]

    def _encode(self, clips: tuple[Clip, ...]) -> Any:
        if not clips:
            raise ValueError("it is about no video or picture, and this model answers about them.")
        sources = [
            clip.source if isinstance(clip.source, str) else [*clip.source] for clip in clips
        ]
        if len(clips) > 1:
            encoded = self._assistant.encode_together(sources, **self._sampling)
        else:
            encoded = self._assistant.encode(sources[0], **self._wanted(clips[0]))
        times = encoded.timestamps
        self.num_frames.append(len(times))
        if len(times) > 1 and times[-1] > times[0]:
            self.rates.append((len(times) - 1) / (times[-1] - times[0]))
        return encoded

    def _wanted(self, clip: Clip) -> dict[str, Any]:
        bounds = {"start": clip.start, "end": clip.end}
        wanted = self._sampling | {k: v for k, v in bounds.items() if v is not None}
        if not isinstance(clip.source, str):  # all pictures of a few, and they have no times
            count = wanted.get("num_frames")
            most = len(clip.source) if count is None else min(len(clip.source), count)
            wanted = {"num_frames": most}
        return wanted
