"""Black, fades, freezes and brightness, from a few numbers of each frame."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rec. 709, of values as they are shown.
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
# A picture is black where nearly all of it is this dark, as FFmpeg's blackdetect has it.
_DARK, _NEARLY_ALL = 25.5, 0.98
_SHORTEST_BLACK = 0.1  # seconds
# The same picture again: hardly a pixel differs by more than coding makes it.
_SAME_MEAN, _SAME_MOST = 0.1, 4.0
_SHORTEST_FREEZE = 1.0  # seconds
# A fade goes on for so long, by so much, and in steps: a cut from black does not.
_SHORTEST_FADE, _LEAST_FADE, _LARGEST_STEP = 0.25, 20.0, 0.4
_PLATEAU = 1.5  # levels in `_SHORTEST_FADE` seconds that are no rise any more

Span = tuple[int, int]
"""Positions of the first frame and of the one after the last."""


@dataclass(frozen=True)
class Fade:
    """Between black and picture.

    Attributes:
        span: From the last of the darkest frames to the first whole picture, or the other way
            round.
        to_black: Otherwise from black.
    """

    span: Span
    to_black: bool


@dataclass
class Light:
    """Takes in frames; see `Measure`.

    Attributes:
        luma: Mean luma of each frame, 0 to 255.
    """

    luma: array = field(default_factory=lambda: array("f"))
    _dark: array = field(default_factory=lambda: array("b"))
    _same: array = field(default_factory=lambda: array("b"))
    _last: NDArray[np.float32] | None = None

    def see(self, picture: NDArray[np.uint8]) -> None:
        """Take in the next frame, uint8 (H, W, 3)."""
        luma = picture @ _LUMA
        self.luma.append(float(luma.mean()))
        self._dark.append(bool((luma < _DARK).mean() >= _NEARLY_ALL))
        same = False
        if self._last is not None:
            change = np.abs(luma - self._last)
            same = bool(change.mean() < _SAME_MEAN and change.max() < _SAME_MOST)
        self._same.append(same)
        self._last = luma

    def black(self, times: NDArray[np.float64], end: float) -> list[Span]:
        """Where the picture is black.

        Args:
            times: seconds (T,) of the frames.
            end: seconds at which the last frame ends.
        """
        return [span for span in runs(self._dark) if _lasts(span, times, end) >= _SHORTEST_BLACK]

    def freezes(self, times: NDArray[np.float64], end: float) -> list[Span]:
        """Where the picture stands still, and is not black; arguments as of `black`."""
        still = [(first - 1, last) for first, last in runs(self._same)]
        return [
            span
            for span in still
            if _lasts(span, times, end) >= _SHORTEST_FREEZE and not all(self._dark[slice(*span)])
        ]

    def fades(self, times: NDArray[np.float64]) -> list[Fade]:
        """Where picture comes out of black or goes into it, by and by."""
        luma = np.array(self.luma)
        found = []
        for first, after in runs(self._dark):
            darkest = first + np.flatnonzero(luma[first:after] <= luma[first:after].min() + 1)
            start, end = int(darkest[-1]), int(darkest[0])
            if end > 0 and (length := _rise(luma[end::-1], times[end] - times[end::-1])):
                found.append(Fade((end - length, end), to_black=True))
            if length := _rise(luma[start:], times[start:] - times[start]):
                found.append(Fade((start, start + length), to_black=False))
        return found

    def dark(self, times: NDArray[np.float64], end: float) -> list[tuple[int, int, int]]:
        """What is black, with the fades before and after it; arguments as of `black`.

        Returns:
            Positions of the first frame, of the one after the darkest, and of the last, in order.
        """
        merged: list[Span] = []
        parts = [(first, after - 1) for first, after in self.black(times, end)]
        for first, last in sorted([*parts, *(fade.span for fade in self.fades(times))]):
            if merged and first <= merged[-1][1] + 1:
                first, before = merged.pop()
                last = max(before, last)
            merged.append((first, last))
        return [(first, self._turn(first, last), last) for first, last in merged]

    def _turn(self, first: int, last: int) -> int:
        luma = np.array(self.luma[first : last + 1])
        return first + int(np.flatnonzero(luma <= luma.min() + 1)[-1]) + 1


def _rise(luma: NDArray[np.float64], since: NDArray[np.float64]) -> int:
    """Over how many frames picture comes by and by, from a black one on; 0: it does not.

    Args:
        luma: of the frames from the black one on, (T,).
        since: seconds from the black one, (T,).
    """
    end = 0
    while end + 1 < len(luma) and luma[end + 1] > luma[end] - 1:
        ahead = min(int(np.searchsorted(since, since[end] + _SHORTEST_FADE)), len(luma) - 1)
        if luma[ahead] - luma[end] < _PLATEAU:
            break
        end += 1
    rise = luma[end] - luma[0]
    if rise < _LEAST_FADE or since[end] < _SHORTEST_FADE:
        return 0
    return end if np.diff(luma[: end + 1]).max() <= _LARGEST_STEP * rise else 0


def runs(flags: ArrayLike) -> Iterator[Span]:
    """Where flags (T,) are set without a break."""
    edges = np.flatnonzero(np.diff(np.asarray(flags, dtype=np.int8), prepend=0, append=0)).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


def _lasts(span: Span, times: NDArray[np.float64], end: float) -> float:
    first, after = span
    return float((times[after] if after < len(times) else end) - times[first])
