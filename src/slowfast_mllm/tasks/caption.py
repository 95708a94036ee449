"""Captions of one video or of very many: a paragraph, or segments with times over its length.

Videos are read and encoded while others are answered: all go through the model's running batch,
those windows too that a long video is looked at in. A video that fails, fails alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_mllm.engine import DESCRIBE, Answer, Assistant, Generation, Request
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks.cut_text import at_most, whole_sentences, without_loops
from slowfast_mllm.tasks.many import OnProgress, Outcomes, Progress, results_into
from slowfast_mllm.tasks.records import Record
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions
from slowfast_mllm.tasks.windows import equal_parts
from slowfast_mllm.video import VideoError

_TOKENS_A_WORD = 4  # of scripts that a tokenizer knows little of
_LEAST_TOKENS = 32


class Segment(Part):
    """What is seen in a part of a video."""

    start: Seconds
    end: Seconds
    text: str


class Caption(Result):
    """What a video shows, in words."""

    caption: str
    """A paragraph; of a dense caption, the texts of its segments."""
    segments: list[Segment]
    """Of a dense caption, one after the other over the whole length; otherwise none."""
    data: Any = None
    """The value of a caption that fits a JSON Schema."""


@dataclass(frozen=True)
class Captioning:
    """How videos are captioned.

    Attributes:
        prompt: what the model is asked.
        max_words: captions end with the last sentence that ends before, or after so many words. The
            model is not told: ask it for brevity in `prompt`, in words that it knows.
        dense: segments with times, from windows of `window` seconds over the whole length.
        max_new_tokens: the longest answer to a question, in tokens.
        sampling: fields of `Sampling`: frames of each video, or of each window.
        schema: a JSON Schema that captions fit, which are JSON then.

    Raises:
        ValueError: a number is out of range, or something does not go with a schema.
    """

    prompt: str = DESCRIBE
    max_words: int | None = None
    dense: bool = False
    window: float = 10.0
    max_new_tokens: int = 256
    sampling: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("prompt: empty; ask something like 'What happens?'.")
        if self.max_words is not None and self.max_words < 1:
            raise ValueError(f"max_words={self.max_words}: give a number from 1.")
        if not 0.1 <= self.window < float("inf"):
            raise ValueError(f"window={self.window}: give seconds, at least 0.1.")
        if self.schema is not None and (self.dense or self.max_words is not None):
            raise ValueError("schema: of whole videos; leave out dense and max_words.")
        Generation(max_new_tokens=self.max_new_tokens, schema=self.schema)

    def settings(self) -> dict[str, Any]:
        """On what a caption depends, beside the model."""
        dense = {"window": self.window} if self.dense else {}
        given = {k: v for k, v in self.sampling.items() if v not in (None, False)}
        return {
            "prompt": self.prompt,
            "max_words": self.max_words,
            "dense": self.dense,
            **dense,
            **({} if self.schema is None else {"schema": self.schema}),
            **given,
        }

    def options(self) -> dict[str, Any]:
        """Of a request: fields of `Sampling` and `Generation`."""
        return {**self.sampling, "max_new_tokens": self._most_tokens, "schema": self.schema}

    @property
    def _most_tokens(self) -> int:
        if self.max_words is None:
            return self.max_new_tokens
        return min(self.max_new_tokens, max(_LEAST_TOKENS, _TOKENS_A_WORD * self.max_words))

    def text_of(self, answer: Answer) -> str:
        """An answer without what was too much of it."""
        if self.schema is not None:
            return answer.text
        text = without_loops(answer.text)
        if text == answer.text and answer.timing["tokens"] >= self._most_tokens:
            text = whole_sentences(text)
        return text if self.max_words is None else at_most(text, self.max_words)


@dataclass
class _Work:
    """A record and what has been answered of it.

    Attributes:
        spans: start and end of its windows in seconds; one of None where all of it is looked at.
    """

    record: Record
    spans: list[tuple[float | None, float | None]] = field(default_factory=list)
    outcomes: list[Answer | Exception] = field(default_factory=list)
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return len(self.outcomes) == len(self.spans)


def caption_video(assistant: Assistant, video: str, how: Captioning | None = None) -> Caption:
    """Say what a video shows.

    Raises:
        VideoError: it cannot be read.
        ValueError: the model cannot be asked like this.
    """
    record = Record(video, video)
    ((_, outcome),) = caption_videos(assistant, [record], how or Captioning())
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def caption_videos(
    assistant: Assistant, records: Iterable[Record], how: Captioning, max_batch: int = 16
) -> Iterator[tuple[Record, Caption | Exception]]:
    """Caption many videos together.

    Records are taken as they are needed and captions forgotten as they are given, so there may be
    millions.

    Yields:
        In the order of `records`: each with its caption, or with the error that made it fail.
    """
    open_work: deque[_Work] = deque()

    def requests() -> Iterator[Request]:
        for record in records:
            work = _begun(assistant.reader, record, how)
            open_work.append(work)
            for start, end in work.spans:
                bounds = {"start": start, "end": end}
                options = how.options() | {k: v for k, v in bounds.items() if v is not None}
                yield Request(record.video, how.prompt, options=options)

    def finished() -> Iterator[tuple[Record, Caption | Exception]]:
        while open_work and open_work[0].is_over:
            work = open_work.popleft()
            yield work.record, _caption_of(work, how)

    with closing(assistant.generate(requests(), max_batch)) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            yield from finished()  # those that there was nothing to ask about
            if isinstance(outcome, Answer) and outcome.problem is not None:
                outcome = ValueError(outcome.problem)
            open_work[0].outcomes.append(outcome)
            yield from finished()
    yield from finished()


def caption_into(
    output: Path,
    assistant: Assistant,
    records: Iterable[Record],
    how: Captioning,
    on_progress: OnProgress = lambda progress: None,
    max_batch: int = 16,
) -> Progress:
    """Caption what is not in a JSON Lines file yet, and write it there as it comes.

    Args:
        output: ends in `.jsonl`; what failed is told in `.errors.jsonl` beside it.

    Raises:
        ValueError: `output` is another program's or was made with other settings.
        OSError: it cannot be written (any more).
    """
    same = {"model": assistant.name, "settings": how.settings()}
    return results_into(
        output,
        same,
        records,
        lambda left: fields_of(caption_videos(assistant, left, how, max_batch)),
        on_progress,
    )


def fields_of(captions: Iterable[tuple[Record, Caption | Exception]]) -> Outcomes:
    """Captions as rows of a file."""
    for record, outcome in captions:
        yield record, outcome.model_dump() if isinstance(outcome, Caption) else outcome


def _begun(reader: Reader, record: Record, how: Captioning) -> _Work:
    """What is to be asked about a record."""
    if record.problem is not None:
        return _Work(record, error=ValueError(record.problem))
    try:
        return _Work(record, spans_of(reader, record, how))
    except (ValueError, OSError) as error:
        return _Work(record, error=error)


def spans_of(
    reader: Reader, record: Record, how: Captioning
) -> list[tuple[float | None, float | None]]:
    """Start and end of each part of a video that is looked at by itself: of a dense caption, equal
    parts of the clip, none longer than the window.

    Raises:
        VideoError: it cannot be read.
    """
    if not how.dense:
        return [(record.start, record.end)]
    known = {name: how.sampling[name] for name in ("frames_fps", "clip") if name in how.sampling}
    duration = reader.probe_video(record.video, **known).duration
    begin = record.start or 0.0
    end = duration if record.end is None else min(record.end, duration)
    if not begin < end:
        raise VideoError(f"{record.id}: from {begin:g} to {end:g} s there is nothing to look at.")
    return [*equal_parts(begin, end, how.window)]


def _caption_of(work: _Work, how: Captioning) -> Caption | Exception:
    answers = [outcome for outcome in work.outcomes if isinstance(outcome, Answer)]
    failed = [outcome for outcome in work.outcomes if isinstance(outcome, Exception)]
    if not answers:
        return work.error or failed[0]
    warnings = list(dict.fromkeys(w for answer in answers for w in answer.warnings))
    warnings += dict.fromkeys(f"a part is without words: {error}" for error in failed)
    segments = _segments(work, how) if how.dense else []
    texts = [s.text for s in segments] if how.dense else [how.text_of(answers[0])]
    return Caption(
        model=answers[0].model,
        software=versions(),
        video=Clip.of(answers[0].info),
        frames=Frames(
            indices=[i for answer in answers for i in answer.frame_indices],
            timestamps=[t for answer in answers for t in answer.timestamps],
        ),
        settings=how.settings() | _choices(answers),
        timing={
            name: sum(answer.timing[name] for answer in answers)
            for name in answers[0].timing
            if name != "tokens"
        },
        warnings=warnings,
        caption=" ".join(texts),
        segments=segments,
        data=answers[0].data,
    )


def _choices(answers: list[Answer]) -> dict[str, Any]:
    """Why so many frames were looked at, of each window, where that was left to the engine."""
    chosen = [a.frame_choice.to_dict() for a in answers if a.frame_choice is not None]
    return {"frame_choice": chosen} if chosen else {}


def _segments(work: _Work, how: Captioning) -> list[Segment]:
    """One after the other; neighbours that say the same are one."""
    segments: list[Segment] = []
    for (start, end), outcome in zip(work.spans, work.outcomes, strict=True):
        if not isinstance(outcome, Answer):
            continue
        text = how.text_of(outcome)
        if segments and segments[-1].text == text and segments[-1].end == start:
            segments[-1] = segments[-1].model_copy(update={"end": end})
        else:
            segments.append(Segment(start=start or 0.0, end=end or 0.0, text=text))
    return segments
