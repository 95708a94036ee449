"""Raw presentation stamps -> seconds from the first frame, sorted, with holes and jumps mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each presented frame of a clip starts.

    Attributes:
        timestamps: float64 (n,), seconds, sorted, first is 0.0.
        duration: Seconds up to the end of the last frame.
        mended: Stamps that were missing or ran backwards and were made up.
    """

    timestamps: NDArray[np.float64]
    duration: float
    mended: int = 0

    @property
    def fps(self) -> float:
        """Average frames per second, 0.0 where no duration is known."""
        return self.timestamps.size / self.duration if self.duration > 0 else 0.0

    def warnings(self) -> list[str]:
        """A line where stamps were made up."""
        if not self.mended:
            return []
        return [f"{self.mended} time stamps were missing or ran backwards and were mended"]


def make_timeline(
    stamps: Sequence[int | None],
    time_base: Fraction | None,
    last_duration: int | None = None,
    rate: Fraction | None = None,
) -> Timeline:
    """A timeline from the stamps of the presented frames in presentation order.

    A missing stamp follows its predecessor by the usual step. A stamp that runs backwards
    (streams glued together) starts a new count one step after its predecessor.

    Args:
        stamps: Units of `time_base`; None where the file gives none.
        time_base: Seconds per unit; None or 0 where unknown (then all stamps are made up).
        last_duration: Units for which the last frame is shown; None or 0: the usual step.
        rate: Nominal frames per second, for clips too short to show their step.
    """
    unit = time_base if time_base and time_base > 0 else None
    known: list[int | None] = list(stamps) if unit else [None] * len(stamps)
    step = _usual_step(known, unit, rate)
    times, mended = _mend(known, unit or Fraction(1), step)
    end = float(last_duration * unit) if unit and last_duration and last_duration > 0 else step
    duration = times[-1] + end if times else 0.0
    return Timeline(np.array(times, dtype=np.float64), duration, mended)


def _usual_step(
    stamps: Sequence[int | None], unit: Fraction | None, rate: Fraction | None
) -> float:
    steps = [
        later - sooner
        for sooner, later in pairwise(stamps)
        if sooner is not None and later is not None and later > sooner
    ]
    if steps and unit:
        return float(median_low(steps) * unit)
    return float(1 / rate) if rate and rate > 0 else 0.0


def _mend(stamps: Sequence[int | None], unit: Fraction, step: float) -> tuple[list[float], int]:
    times: list[float] = []
    origin: int | None = None
    shift = 0.0
    mended = 0
    numerator, denominator = unit.numerator, unit.denominator
    for stamp in stamps:
        if stamp is None:
            mended += 1
            times.append(times[-1] + step if times else 0.0)
            continue
        if origin is None:
            origin = stamp
            shift = times[-1] + step if times else 0.0
        time = (stamp - origin) * numerator / denominator + shift
        if times and time <= times[-1]:
            mended += 1
            shift += times[-1] + step - time
            time = times[-1] + step
        times.append(time)
    return times, mended
