"""What happens in a video, one thing after the other: windows are described, like ones joined.

Where two descriptions meet, the frame from which on the second is the likelier one is looked for.
"""

import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from slowfast_mllm.engine import DESCRIBE, Answer, Assistant, Request
from slowfast_mllm.tasks.cut_text import without_loops, words_of
from slowfast_mllm.tasks.reading import Reading, read_densely
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions

_ALIKE = 0.8  # share of their words that two descriptions of one event have in common
_PROBE = 2  # frames on either side of a place where an event may begin


class Event(Part):
    """What is seen for a while."""

    start: Seconds
    end: Seconds
    text: str


class Events(Result):
    """What happens in a video."""

    events: list[Event]
    """One after the other, over the whole length."""


@dataclass
class _Run:
    """Windows in a row that are described alike: frames from `first` to before `last`."""

    first: int
    last: int
    texts: list[str]

    @property
    def text(self) -> str:
        """What is said most often, the first of such."""
        return Counter(self.texts).most_common(1)[0][0]


def find_events(
    assistant: Assistant,
    video: Any,
    window: float = 1.0,
    prompt: str = DESCRIBE,
    max_new_tokens: int = 128,
    **sampling: Any,
) -> Events:
    """Say what happens in a video, one thing after the other.

    Args:
        video: anything that `read_video` takes.
        window: seconds that are described together.
        prompt: what is asked of each window.
        max_new_tokens: the longest description.
        **sampling: see `read_densely`.

    Raises:
        VideoError: the video cannot be read.
        ValueError: an argument is wrong, or the model cannot be asked like this.
    """
    if not 0.1 <= window < float("inf"):
        raise ValueError(f"window={window}: give seconds, at least 0.1.")
    began = time.perf_counter()
    reading = read_densely(assistant, video, **sampling)
    read = time.perf_counter()
    runs = _runs(reading, window, prompt, max_new_tokens)
    described = time.perf_counter()
    if assistant.capabilities.likelihoods:
        for before, after in pairwise(runs):
            before.last = after.first = _edge(reading, before, after, prompt)
    seen = reading.video
    return Events(
        model=assistant.name,
        software=versions(),
        video=Clip.of(seen.info),
        frames=Frames(indices=seen.frame_indices.tolist(), timestamps=seen.timestamps.tolist()),
        settings={
            "window": window,
            "prompt": prompt,
            "max_new_tokens": max_new_tokens,
            **reading.settings,
        },
        timing={
            "read": read - began,
            "describe": described - read,
            "likelihoods": time.perf_counter() - described,
        },
        warnings=list(seen.info.warnings),
        events=[
            Event(start=reading.time(run.first), end=reading.time(run.last), text=run.text)
            for run in runs
        ],
    )


def _runs(reading: Reading, window: float, prompt: str, longest: int) -> list[_Run]:
    seconds = reading.end - reading.time(0)
    parts = list(reading.parts(max(1.0, len(reading) * window / max(seconds, window))))
    requests = (
        Request(reading.encode(*part), prompt, options={"max_new_tokens": longest})
        for part in parts
    )
    runs: list[_Run] = []
    for (first, last), answer in zip(parts, reading.assistant.generate(requests), strict=True):
        if not isinstance(answer, Answer):
            raise answer
        text = without_loops(answer.required().text)
        if runs and _are_alike(runs[-1].text, text):
            runs[-1].last = last
            runs[-1].texts.append(text)
        else:
            runs.append(_Run(first, last, [text]))
    return runs


def _are_alike(one: str, other: str) -> bool:
    """By the words that both have, in whatever order."""
    some, others = (Counter(words_of(text)) for text in (one, other))
    total = some.total() + others.total()
    return not total or 2 * (some & others).total() / total >= _ALIKE


def _edge(reading: Reading, before: _Run, after: _Run, prompt: str) -> int:
    """The frame from which on the second of two descriptions is the likelier one."""
    size = (before.last - before.first) // len(before.texts)
    low = max(before.first, before.last - size) + 1
    high = min(after.last, after.first + (after.last - after.first) // len(after.texts)) - 1
    while high - low > 1:
        middle = (low + high) // 2
        probe = max(low - 1, middle - _PROBE), min(high + 1, middle + _PROBE)
        first, second = reading.assistant.likelihoods(
            reading.encode(*probe), prompt, [before.text, after.text]
        )
        if second.per_token > first.per_token:
            high = middle
        else:
            low = middle
    return max(before.first + 1, min(high, after.last - 1))
