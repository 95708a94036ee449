"""Raw presentation stamps -> seconds on the clip's clock, sorted, with holes and jumps mended.

The clock is a player's: 0 is where the earliest of the file's picture and sound starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

# What players take where a bare stream does not tell its rate.
_NOMINAL_RATE = Fraction(25)


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each presented frame of a clip starts.

    Attributes:
        timestamps: float64 (n,), seconds, sorted; the first is above 0.0 where the sound starts
            before the picture.
        duration: Seconds up to the end of the last frame.
        warnings: One line each: stamps that were made up, jumps left out, a rate assumed.
    """

    timestamps: NDArray[np.float64]
    duration: float
    warnings: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        """Average frames per second while they are shown, 0.0 where no duration is known."""
        if not self.timestamps.size:
            return 0.0
        shown = self.duration - float(self.timestamps[0])
        return self.timestamps.size / shown if shown > 0 else 0.0


@dataclass(frozen=True)
class Clock:
    """How the stamps of one stream become seconds.

    Attributes:
        unit: Seconds per unit of a stamp; None or 0 where unknown (then all times are made up).
        zero: Seconds by the stamps at which the clock starts; None: with the first frame.
        last_duration: Units for which the last frame is shown; None or 0: the usual step.
        rate: Nominal frames per second, where known.
        in_decode_order: The stamps rise in the order of coding, and frames take them as they are
            presented.
        joins: Stamps within jumps ahead in which no time passed.
        bare: The stream has no container, and stamps are guesses: unless its rate is known and they
            rise from frame to frame, frames are counted.
    """

    unit: Fraction | None
    zero: Fraction | None = None
    last_duration: int | None = None
    rate: Fraction | None = None
    in_decode_order: bool = False
    joins: tuple[int, ...] = ()
    bare: bool = False

    def timeline(self, stamps: Sequence[int | None]) -> Timeline:
        """When frames are shown that came out with these stamps, in presentation order.

        A missing stamp follows its predecessor by the usual step. Frames with one stamp, or with
        one less than a step before their predecessor's, share the time up to the next. A stamp that
        runs further backwards (streams glued together) or jumps ahead at a join starts a new count
        one step after its predecessor.
        """
        unit = self.unit if self.unit and self.unit > 0 else None
        known: list[int | None] = list(stamps) if unit else [None] * len(stamps)
        if self.bare and not (self.rate and _rise(known)):
            known = [None] * len(stamps)
        elif self.in_decode_order:
            known = _sorted(known)
        rate = self.rate or (_NOMINAL_RATE if self.bare else None)
        step = _usual_step(known, unit, rate)
        mended = _mend(known, unit or Fraction(1), step, self.joins)
        times = _spread(mended.times, step)
        lead = self._lead(known, mended.times, unit)
        if lead:
            times = times + lead
        end = 0.0
        if unit and self.last_duration and known and known[-1] is not None:
            end = float(self.last_duration * unit)
        duration = float(times[-1]) + (end if end > 0 else step) if times.size else 0.0
        return Timeline(times, duration, tuple(self._warnings(mended)))

    def _warnings(self, mended: _Mended) -> Iterator[str]:
        if self.bare and not self.rate:
            yield f"the stream does not tell its frame rate: taken as {_NOMINAL_RATE} a second"
        # In decode order FFmpeg gives the last frame its predecessor's stamp.
        if mended.made_up > int(self.in_decode_order) and not self.bare:
            yield (
                f"{mended.made_up} time stamps were missing, repeated or ran backwards and were "
                "mended"
            )
        if mended.left_out:
            yield (
                f"joined from parts: its clock jumps ahead by {mended.left_out:.2f} s in which "
                "nothing was recorded; they are left out"
            )

    def _lead(
        self, known: Sequence[int | None], times: Sequence[float], unit: Fraction | None
    ) -> float:
        """Seconds from the start of the clock to the first frame."""
        if self.zero is not None and unit is not None:
            for stamp, time in zip(known, times, strict=True):
                if stamp is not None:
                    return max(0.0, float(stamp * unit - self.zero) - time)
        return 0.0


def _rise(stamps: Sequence[int | None]) -> bool:
    return all(a is not None and b is not None and a < b for a, b in pairwise(stamps))


def _sorted(stamps: Sequence[int | None]) -> list[int | None]:
    """The same stamps in rising order, with those that are missing where they were."""
    rising = iter(sorted(stamp for stamp in stamps if stamp is not None))
    return [None if stamp is None else next(rising) for stamp in stamps]


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


@dataclass
class _Mended:
    """Seconds from the first frame, and what was done to the stamps.

    Attributes:
        times: Rising; equal where frames repeat a stamp or go back by less than a step.
        made_up: Stamps that were missing, repeated or ran backwards.
        left_out: Seconds that were jumped over at joins.
    """

    times: list[float] = field(default_factory=list)
    made_up: int = 0
    left_out: float = 0.0


def _mend(
    stamps: Sequence[int | None], unit: Fraction, step: float, joins: Sequence[int]
) -> _Mended:
    result = _Mended()
    times = result.times
    origin: int | None = None
    last: int | None = None
    shift = 0.0
    numerator, denominator = unit.numerator, unit.denominator
    for stamp in stamps:
        following = times[-1] + step if times else 0.0
        if stamp is None:
            result.made_up += 1
            times.append(following)
            continue
        if origin is None or last is None:
            origin = last = stamp
            shift = following
        time = (stamp - origin) * numerator / denominator + shift
        joined = bool(joins) and any(last < join <= stamp for join in joins)
        late = times[-1] - time if times else -1.0
        if joined:
            result.left_out += time - following
        elif late >= 0:
            result.made_up += 1
        if joined or (late > 0 and late >= step):
            shift += following - time
            time = following
        times.append(max(time, times[-1]) if times else time)
        last = stamp
    return result


def _spread(times: Sequence[float], step: float) -> NDArray[np.float64]:
    """Frames of one time share the time up to the next, each at most a usual step."""
    starts, firsts, counts = np.unique(
        np.array(times, dtype=np.float64), return_index=True, return_counts=True
    )
    if starts.size == len(times):
        return starts
    gaps = np.diff(starts, append=starts[-1] + step * counts[-1])
    each = np.minimum(gaps / counts, step or np.inf)
    place = np.arange(len(times)) - np.repeat(firsts, counts)
    return np.repeat(starts, counts) + place * np.repeat(each, counts)
