"""When a video shows something: spans, or "not found", with how sure the model is over time.

The video is read once, densely. Windows of the frames that were read are looked at, coarse ones
over the whole length and finer ones at the edges of what was found. Each is encoded by itself and
not cut out of one memory: movement and tracks in a memory tell of what lies outside the window.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks.likely import (
    YesNo,
    refuse_without_likelihoods,
    unsure_warning,
    wordings,
    yes_or_no,
)
from slowfast_mllm.tasks.reading import Reading, read_densely
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions

_WINDOW = 8  # frames of a coarse window


class Span(Part):
    """A part of a video that shows what was asked for."""

    start: Seconds
    """Of the first frame that shows it."""
    end: Seconds
    """Of the first frame, of those that were looked at, that shows it no more; or the end."""
    score: float
    """How sure the model is, at the most: P(yes) / (P(yes) + P(no))."""


class Grounding(Result):
    """When a video shows something."""

    question: str
    found: bool
    spans: list[Span]
    """In order of time; none where it was not found."""
    curve: list[Span]
    """All windows that were looked at, by start; coarse ones cover the whole length."""


@dataclass
class _Windows:
    """How surely stretches of a video show something.

    Attributes:
        answers: of stretches that were looked at, by first frame and the one behind the last.
    """

    reading: Reading
    question: str
    threshold: float
    answers: dict[tuple[int, int], YesNo] = field(default_factory=dict)

    def score(self, first: int, last: int) -> float:
        """Of the frames from `first` to before `last`."""
        if (first, last) not in self.answers:
            seen = self.reading.encode(first, last)
            (answer,) = yes_or_no(self.reading.assistant, seen, [self.question])
            self.answers[first, last] = answer
        return self.answers[first, last].probability

    def shows(self, first: int, last: int) -> bool:
        return self.score(first, last) >= self.threshold

    def narrowed(self, first: int, last: int, from_start: bool) -> tuple[int, int]:
        """The first frames, or the last, of a window that shows it, by halves."""
        while last - first > 1:
            middle = (first + last) // 2
            halves = [(first, middle), (middle, last)]
            shown = [half for half in halves if self.shows(*half)]
            if not shown:  # takes as many frames to be seen
                break
            first, last = shown[0 if from_start else -1]
        return first, last

    def edges(self, run: list[tuple[int, int]], least: int, most: int) -> tuple[int, int]:
        """First frame and the one behind the last that show it, between two others."""
        start = self.narrowed(*run[0], from_start=True)[0]
        last = self.narrowed(*run[-1], from_start=False)[1]
        # A window of which few frames show it may have been taken for one that does not.
        if start == run[0][0]:
            while start > least and self.shows(start - 1, start):
                start -= 1
        if last == run[-1][1]:
            while last < most and self.shows(last, last + 1):
                last += 1
        return start, last


def ground_video(
    assistant: Assistant, video: Any, words: str, threshold: float = 0.5, **sampling: Any
) -> Grounding:
    """Say when a video shows something.

    Args:
        video: anything that `read_video` takes.
        words: as after "Does the video show", e.g. "a red star".
        threshold: how sure the model must be, 0 to 1.
        **sampling: see `read_densely`.

    Raises:
        VideoError: the video cannot be read.
        ValueError: an argument is wrong, or the model cannot be asked like this.
    """
    if not words.strip():
        raise ValueError("Say in words what to look for.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold}: give a number between 0 and 1.")
    refuse_without_likelihoods(assistant)
    began = time.perf_counter()
    reading = read_densely(assistant, video, **sampling)
    read = time.perf_counter()
    seen = reading.video
    question = wordings()["score"].format(what=words.strip())
    windows = _Windows(reading, question, threshold)
    spans = list(_spans(windows))
    return Grounding(
        model=assistant.name,
        software=versions(),
        video=Clip.of(seen.info),
        frames=Frames(indices=seen.frame_indices.tolist(), timestamps=seen.timestamps.tolist()),
        settings={"words": words, "threshold": threshold, **reading.settings},
        timing={"read": read - began, "likelihoods": time.perf_counter() - read},
        warnings=[*seen.info.warnings, *unsure_warning(list(windows.answers.values()))],
        question=question,
        found=bool(spans),
        spans=spans,
        curve=[_span(windows, *window) for window in sorted(windows.answers)],
    )


def _spans(windows: _Windows) -> Iterator[Span]:
    """Runs of windows that show it, with their edges made exact."""
    coarse = list(windows.reading.parts(_WINDOW))
    shown = [windows.shows(*window) for window in coarse]
    runs: list[list[tuple[int, int]]] = []
    for place, window in enumerate(coarse):
        if shown[place]:
            if not (place and shown[place - 1]):
                runs.append([])
            runs[-1].append(window)
    least = 0
    for number, run in enumerate(runs):
        most = runs[number + 1][0][0] if number + 1 < len(runs) else len(windows.reading)
        first, last = windows.edges(run, least, most)
        best = max(windows.score(*window) for window in run)
        yield Span(start=windows.reading.time(first), end=windows.reading.time(last), score=best)
        least = last


def _span(windows: _Windows, first: int, last: int) -> Span:
    return Span(
        start=windows.reading.time(first),
        end=windows.reading.time(last),
        score=windows.score(first, last),
    )
