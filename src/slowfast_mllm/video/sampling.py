"""Which frames of a clip to take: pure functions on time stamps and counts, no decoding."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.video.result import VideoError

Indices = NDArray[np.int64]
Seconds = NDArray[np.float64]

# Matroska rounds time stamps to whole milliseconds: a frame up to half of one late is on time.
_TICK_TOLERANCE = 0.00051
# Bounds are typed by people and time stamps are sums of fractions: equal up to a microsecond.
_BOUND_TOLERANCE = 1e-6
_MAX_TICKS = 10_000_000


def uniform_indices(num_available: int, num_frames: int) -> Indices:
    """Positions of `num_frames` frames spread over a clip, as the published checkpoints expect.

    Args:
        num_available: Frames in the clip, at least 1.
        num_frames: Frames wanted, at least 1.

    Returns:
        int64 (num_frames,), sorted: `linspace(0, num_available - 1, num_frames)` truncated
        toward zero; a shorter clip gives all its frames and then repeats the last.

    Raises:
        ValueError: An argument is below 1.
    """
    if num_available < 1 or num_frames < 1:
        raise ValueError(
            f"num_available={num_available} and num_frames={num_frames} must be at least 1"
        )
    if num_available < num_frames:
        return np.minimum(np.arange(num_frames, dtype=np.int64), num_available - 1)
    return np.linspace(0, num_available - 1, num_frames).astype(np.int64)


def fps_indices(timestamps: Seconds, fps: float, max_frames: int | None = None) -> Indices:
    """Positions of the frames on screen at the ticks 0, 1/fps, 2/fps, ... of a clip.

    Args:
        timestamps: float64 (n,), seconds, sorted; ticks count from `timestamps[0]` up to the
            last one. A frame up to half a millisecond late counts as on time.
        fps: Ticks per second, above 0. Above the clip's own rate frames are repeated.
        max_frames: Where there would be more ticks than this, so many of them are taken, spread
            evenly.

    Returns:
        int64 (ticks,), sorted.

    Raises:
        ValueError: No time stamps, or an argument out of range.
    """
    require_positive(fps=fps, max_frames=max_frames)
    times = np.asarray(timestamps, dtype=np.float64)
    if times.size == 0:
        raise ValueError("timestamps is empty: a clip has at least one frame")
    span = float(times[-1] - times[0])
    ticks = math.floor(min((span + _TICK_TOLERANCE) * fps, 2.0**53)) + 1
    count = min(ticks, max_frames or ticks)
    if count > _MAX_TICKS:
        raise ValueError(f"fps={fps} asks for {count} frames: give max_frames= as well")
    return on_screen(times, times[0] + uniform_indices(ticks, count) / fps)


def on_screen(timestamps: Seconds, at: Seconds) -> Indices:
    """Positions of the frames that are shown at given times; before the first one, that.

    Args:
        timestamps: float64 (n,), seconds, sorted. A frame up to half a millisecond late counts as
            on time.
        at: float64 (m,), seconds, in any order.

    Returns:
        int64 (m,).
    """
    after = np.searchsorted(timestamps, at + _TICK_TOLERANCE, side="right")
    return np.maximum(after - 1, 0).astype(np.int64)


def require_positive(**arguments: float | None) -> None:
    """Rates are numbers above 0, counts whole ones; None is left alone.

    Raises:
        ValueError: An argument is not; the message names it.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        whole = not name.endswith("fps")
        if not isinstance(value, Integral if whole else Real):
            raise ValueError(f"{name}={reprlib.repr(value)} must be a {'whole ' * whole}number")
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be above 0, for example {name}=8")


@dataclass(frozen=True)
class SampleRequest:
    """The arguments of `read_video`, checked, and the choice they make.

    Raises:
        ValueError: Arguments out of range or in conflict; the message names them.
    """

    num_frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    start: float | None = None
    end: float | None = None
    at: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.at is not None:
            self._check_instants()
        if self.num_frames is not None and self.fps is not None:
            raise ValueError("num_frames and fps cannot be given together: choose one")
        require_positive(num_frames=self.num_frames, fps=self.fps, max_frames=self.max_frames)
        if self.num_frames is not None and self.num_frames > _MAX_TICKS:
            raise ValueError(f"num_frames={self.num_frames} must be at most {_MAX_TICKS}")
        for name, bound in (("start", self.start), ("end", self.end)):
            if bound is not None and not isinstance(bound, Real):
                raise ValueError(f"{name}={reprlib.repr(bound)} must be a number of seconds")
            if bound is not None and not (math.isfinite(bound) and bound >= 0):
                raise ValueError(f"{name}={bound} must be seconds from 0 on, for example {name}=2")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError(f"end={self.end} must come after start={self.start or 0.0}")

    def _check_instants(self) -> None:
        others = (self.num_frames, self.fps, self.max_frames, self.start, self.end)
        if any(value is not None for value in others):
            raise ValueError("at says by itself which frames: leave out counts, rates and bounds")
        at: Sequence[float] = self.at if isinstance(self.at, list | tuple) else ()
        if not at or not all(isinstance(t, Real) and math.isfinite(t) and t >= 0 for t in at):
            raise ValueError(f"at={reprlib.repr(self.at)}: give a list of seconds from 0 on")

    @property
    def uses_time(self) -> bool:
        """Whether the choice depends on time stamps."""
        return any(value is not None for value in (self.fps, self.start, self.end, self.at))

    def indices(self, timestamps: Seconds, duration: float, name: str) -> Indices:
        """The chosen positions in presentation order.

        Args:
            timestamps: float64 (n,), n >= 1, seconds, sorted, of all presented frames.
            duration: Seconds up to the end of the last frame.
            name: The source, for the message.

        Returns:
            int64 (T,), sorted, in [0, n).

        Raises:
            VideoError: `start` or one of `at` lies behind the end, or `end` before the first frame.
        """
        if self.at is not None:
            at = np.sort(np.asarray(self.at, dtype=np.float64))
            self._refuse_behind("at", at[-1], timestamps, duration, name)
            return on_screen(timestamps, at)
        first, stop = self._window(timestamps, duration, name)
        return first + self._choose(timestamps[first:stop])

    def _choose(self, times: Seconds) -> Indices:
        if self.fps is not None:
            return fps_indices(times, self.fps, self.max_frames)
        count = self.num_frames if self.num_frames is not None else times.size
        return uniform_indices(times.size, min(count, self.max_frames or count))

    def _window(self, times: Seconds, duration: float, name: str) -> tuple[int, int]:
        start, end = self.start or 0.0, self.end if self.end is not None else math.inf
        first = int(np.searchsorted(times, start - _BOUND_TOLERANCE))
        stop = int(np.searchsorted(times, end - _BOUND_TOLERANCE))
        if first < stop:
            return first, stop
        self._refuse_behind("start", start, times, duration, name)
        if first == 0:
            raise VideoError(
                f"{name}: end={end:g} is before its first frame at {times[0]:g} s; choose a later "
                "end"
            )
        # The bounds fall between two frames: the earlier one is on screen all the while.
        return first - 1, first

    @staticmethod
    def _refuse_behind(what: str, bound: float, times: Seconds, duration: float, name: str) -> None:
        if bound >= max(duration, times[-1] + _BOUND_TOLERANCE):
            raise VideoError(
                f"{name}: {what}={bound:g} is behind its end at {duration:.3f} s; "
                f"choose an earlier {'time' if what == 'at' else what}"
            )
