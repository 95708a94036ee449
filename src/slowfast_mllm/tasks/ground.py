"""When a video shows something: spans, or "not found", with how sure the model is over time.

The video is read once, densely. Windows of the frames that were read are looked at, coarse ones
over the whole length and finer ones at the edges of what was found. Each is encoded by itself and
not cut out of one memory: movement and tracks in a memory tell of what lies outside the window.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.engine import Assistant, Sampling
from slowfast_mllm.engine.encoded_video import SUFFIX
from slowfast_mllm.tasks.likely import (
    YesNo,
    refuse_without_likelihoods,
    unsure_warning,
    wordings,
    yes_or_no,
)
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions
from slowfast_mllm.video import SampledVideo, Transform, VideoError, read_video
from slowfast_mllm.video.names import is_named, short_name

_FPS, _MOST = 8.0, 256  # frames a second that are read where nobody says, and in all
_WINDOW = 8  # frames of a coarse window
_SIDE = 448  # pixels of the shorter side of what is kept; models look at no more, or little


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
    """Frames of a video, and how surely stretches of them show something.

    Attributes:
        video: distinct frames, in order.
        end: seconds at which the last of them ends.
        answers: of stretches that were looked at, by first frame and the one behind the last.
    """

    assistant: Assistant
    question: str
    video: SampledVideo
    end: float
    threshold: float
    fit: dict[str, Any]
    answers: dict[tuple[int, int], YesNo] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.video.frames)

    def time(self, frame: int) -> float:
        """Its seconds; behind the last, those of the end."""
        return float(self.video.timestamps[frame]) if frame < len(self) else self.end

    def score(self, first: int, last: int) -> float:
        """Of the frames from `first` to before `last`."""
        if (first, last) not in self.answers:
            seconds = self.time(last) - self.time(first)
            seen = self.assistant.encode(
                self.video.frames[first:last],
                num_frames=last - first,
                frames_fps=(last - first) / seconds if seconds > 0 else 1.0,
                **self.fit,
            )
            (self.answers[first, last],) = yes_or_no(self.assistant, seen, [self.question])
        return self.answers[first, last].probability

    def shows(self, first: int, last: int) -> bool:
        return self.score(first, last) >= self.threshold

    def coarse(self) -> Iterator[tuple[int, int]]:
        """Windows over the whole length, of as equal sizes as can be."""
        bounds = np.linspace(0, len(self), max(1, round(len(self) / _WINDOW)) + 1).round()
        yield from pairwise(bounds.astype(int).tolist())

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
        **sampling: fields of `Sampling`; where neither `num_frames` nor `fps` are given, 8 frames
            a second are read, at most 256.

    Raises:
        VideoError: the video cannot be read.
        ValueError: an argument is wrong, or the model cannot be asked like this.
    """
    if not words.strip():
        raise ValueError("Say in words what to look for.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold}: give a number between 0 and 1.")
    refuse_without_likelihoods(assistant)
    given = {name: value for name, value in sampling.items() if value is not None}
    Sampling(**given)
    began = time.perf_counter()
    seen, end = _read(video, given)
    read = time.perf_counter()
    fit = {"fit": given["fit"]} if "fit" in given else {}
    question = wordings()["score"].format(what=words.strip())
    windows = _Windows(assistant, question, seen, end, threshold, fit)
    spans = list(_spans(windows))
    return Grounding(
        model=assistant.name,
        software=versions(),
        video=Clip.of(seen.info),
        frames=Frames(indices=seen.frame_indices.tolist(), timestamps=seen.timestamps.tolist()),
        settings={"words": words, "threshold": threshold, **given},
        timing={"read": read - began, "likelihoods": time.perf_counter() - read},
        warnings=[*seen.info.warnings, *unsure_warning(list(windows.answers.values()))],
        question=question,
        found=bool(spans),
        spans=spans,
        curve=[_span(windows, *window) for window in sorted(windows.answers)],
    )


def _read(video: Any, sampling: dict[str, Any]) -> tuple[SampledVideo, float]:
    """Distinct frames, and where the last of them ends."""
    if is_named(video) and str(video).endswith(SUFFIX):
        raise VideoError(
            f"{short_name(str(video))}: a memory holds no frames to choose among; name the video."
        )
    wanted = {name: value for name, value in sampling.items() if name != "fit"}
    if "num_frames" not in wanted:
        wanted = {"fps": _FPS, "max_frames": _MOST, **wanted}
        wanted["max_frames"] = Sampling.max_frames if "fps" in sampling else _MOST
    read = read_video(video, **wanted, transform=Transform(_shape, _shrink))
    rows = np.unique(read.frame_indices, return_index=True)[1]  # what a short clip repeats
    seen = SampledVideo(
        read.frames[rows], read.timestamps[rows], read.frame_indices[rows], read.info
    )
    bounds = [seen.info.duration, sampling.get("end", np.inf)]
    return seen, max(min(bounds), float(seen.timestamps[-1]))


def _shape(height: int, width: int) -> tuple[int, int]:
    factor = min(1.0, _SIDE / min(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = _shape(*picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _spans(windows: _Windows) -> Iterator[Span]:
    """Runs of windows that show it, with their edges made exact."""
    coarse = list(windows.coarse())
    shown = [windows.shows(*window) for window in coarse]
    runs: list[list[tuple[int, int]]] = []
    for place, window in enumerate(coarse):
        if shown[place]:
            if not (place and shown[place - 1]):
                runs.append([])
            runs[-1].append(window)
    least = 0
    for number, run in enumerate(runs):
        most = runs[number + 1][0][0] if number + 1 < len(runs) else len(windows)
        first, last = windows.edges(run, least, most)
        best = max(windows.score(*window) for window in run)
        yield Span(start=windows.time(first), end=windows.time(last), score=best)
        least = last


def _span(windows: _Windows, first: int, last: int) -> Span:
    return Span(start=windows.time(first), end=windows.time(last), score=windows.score(first, last))
