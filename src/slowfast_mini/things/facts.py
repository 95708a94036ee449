"""What tracks of a detector tell of a clip, by rule: the ground for questions about things.

The rules say nothing where the evidence is not plain (None): what is not plain is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from slowfast_mini.things.names import CLASSES
from slowfast_mini.things.thing_colors import plain_color

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]

_NAMES = tuple(CLASSES)
# Columns of a token after the class scores.
CENTER, SIZE, SEEN, COLOR = slice(0, 2), slice(2, 4), 5, slice(6, 9)
_SURE, _COUNTED, _THERE, _PERHAPS = 0.5, 0.45, 0.4, 0.3  # scores
_SURE_OF_A_PERSON = 0.4  # a detector that has seen people most takes nothing else for one
_SHARE = 3 / 16  # of the frames that must be sure of a class
_GAP_SECONDS, _GAP_FRAMES = 0.8, 2  # shorter gaps are misses of the detector
_WIDE = 0.4  # range of x beyond which a thing is on no one side
_BORDER = 0.02  # shares of the frame around the thirds where nobody can tell the side
_MOVED, _RESTS, _AXIS = 0.12, 0.05, 1.8  # shares of the frame; how much more than the other axis
_GROWN, _SAME_SIZE = 1.45, 1.15  # ratio of the sides of a box
_NEAR, _FAR = 0.04, 0.12  # shares of the frame between two boxes
SIDES = ("left", "middle", "right")


@dataclass(frozen=True)
class Interval:
    """A stretch in which a class is seen; `start` and `end` in seconds, halfway to the frames
    without it, or None where the clip begins or ends with it."""

    first: float
    last: float
    start: float | None
    end: float | None


@dataclass(frozen=True)
class Thing:
    """A class that is seen.

    Attributes:
        name: the class.
        evidence: its scores summed over the clip.
        count: how many at once, as a rule.
        alone: never more than one at once, so that "the dog" is one.
        intervals: when it is seen.
        clear: what is not in the intervals is plainly without it.
        side, first_side, last_side: of SIDES, of all of the clip, its first and its last moment.
        motion: "left", "right", "up", "down", "nearer", "away", "still" of its longest presence.
        moves: whether it changes its place or size.
        color: one of thing_colors.COLORS.
        area: median share of the frame that the largest of it takes.
        near: classes beside it, None where that is not plain.
    """

    name: str
    evidence: float
    count: int
    alone: bool
    intervals: tuple[Interval, ...]
    clear: bool
    side: str | None
    first_side: str | None
    last_side: str | None
    motion: str | None
    moves: bool | None
    color: str | None
    area: float
    near: tuple[str, ...] | None = None

    @property
    def appears(self) -> float | None:
        """Seconds at which it comes into view, None if it is there from the start."""
        return self.intervals[0].start

    @property
    def leaves(self) -> float | None:
        """Seconds at which it goes out of view for good, None if it stays."""
        return self.intervals[-1].end

    @property
    def seconds(self) -> float:
        """How long it is seen, as intervals tell."""
        return sum(
            (i.last if i.end is None else i.end) - (i.first if i.start is None else i.start)
            for i in self.intervals
        )


@dataclass(frozen=True)
class ThingFacts:
    """`things` are seen, the surest first; `perhaps` may be there; of all other classes nothing
    is. `step` is the time between frames, `still_camera` False where motion cannot be told."""

    things: tuple[Thing, ...]
    perhaps: tuple[str, ...]
    times: Floats
    duration: float
    step: float
    still_camera: bool

    @property
    def seen(self) -> dict[str, Thing]:
        """Things by class."""
        return {thing.name: thing for thing in self.things}

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without any evidence."""
        there = {*self.seen, *self.perhaps}
        return tuple(name for name in _NAMES if name not in there)

    @property
    def people(self) -> int:
        """How many at once, as a rule."""
        person = self.seen.get("person")
        return person.count if person else 0


@dataclass(frozen=True)
class _Tracks:
    """Tokens taken apart. `classes` (S,) of whole tracks, `scores` (T, S) of that class, 0 where it
    is not seen; `best` (T, S) whether it is the best class of that frame."""

    classes: npt.NDArray[np.int64]
    scores: Floats
    best: Flags
    tokens: Floats
    times: Floats

    def of(self, index: int, threshold: float) -> Flags:
        """(T, S): where a track of the class is at least so sure."""
        return (self.classes == index)[None] & (self.scores >= threshold)


def gather_things(
    objects: Floats, times: Floats, duration: float, still_camera: bool = True
) -> ThingFacts:
    """What the tokens of a clip tell.

    Args:
        objects: (T, S, 80 + 11) float: a track in each slot; zero where it is not seen. Class
            scores; centre x, y, width, height as shares of the frame; surest score; 1 where seen;
            mean RGB of 0..1; motion of the centre.
        times: (T,) seconds.
        duration: of the clip, in seconds.
        still_camera: False where the camera moves, so that nothing is told of motion.

    Raises:
        ValueError: other shapes.
    """
    objects, times = np.asarray(objects, np.float64), np.asarray(times, np.float64)
    width = len(_NAMES) + 11
    if objects.ndim != 3 or objects.shape[2] != width or objects.shape[:1] != times.shape:
        raise ValueError(
            f"objects {objects.shape} and times {times.shape}: (T, S, {width}) and (T,) are needed."
        )
    tracks = _tracks(objects, times)
    sure = max(1, round(_SHARE * len(times)))
    frames_of = {
        index: int((tracks.of(index, sure_of(_NAMES[index])) & tracks.best).any(1).sum())
        for index in sorted(set(tracks.classes[tracks.classes >= 0].tolist()))
    }
    things = [_thing(tracks, index) for index, n in frames_of.items() if n >= sure]
    things = [thing for thing in things if thing.intervals]
    things.sort(key=lambda thing: (-thing.evidence, thing.name))
    seen = {thing.name for thing in things}
    shown = objects[..., : len(_NAMES)] * (objects[..., len(_NAMES) + SEEN] > 0)[..., None]
    often = (shown >= _PERHAPS).any(1).sum(0) >= min(2, len(times))
    perhaps = tuple(n for n, some in zip(_NAMES, often, strict=True) if some and n not in seen)
    step = float(np.median(np.diff(times))) if len(times) > 1 else duration
    placed = tuple(_beside(thing, things, tracks) for thing in things)
    return ThingFacts(placed, perhaps, times, duration, step, still_camera)


def sure_of(name: str) -> float:
    """The score from which on a class is there."""
    return _SURE_OF_A_PERSON if name == "person" else _SURE


def _tracks(objects: Floats, times: Floats) -> _Tracks:
    count = len(_NAMES)
    seen = objects[..., count + SEEN] > 0
    scores = objects[..., :count] * seen[..., None]
    total = scores.sum(0)
    # Flicker between cat and dog is one animal: what most of the track says.
    classes = np.where(total.max(1) > 0, total.argmax(1), -1)
    of_track = np.take_along_axis(scores, np.maximum(classes, 0)[None, :, None], 2)[..., 0]
    best = seen & (scores.argmax(2) == classes[None])
    return _Tracks(classes, of_track, best, objects[..., count:], times)


def _thing(tracks: _Tracks, index: int) -> Thing:
    there = tracks.of(index, _THERE)
    counted = tracks.of(index, _COUNTED).sum(1)
    person = _NAMES[index] == "person"
    usual = np.median(counted if person or not counted.any() else counted[counted > 0])
    main = int(np.where(there, tracks.scores, 0).sum(0).argmax())
    alone = bool(there.sum(1).max() <= 1)
    sure = tracks.of(index, sure_of(_NAMES[index]))
    intervals = tuple(_intervals(np.any(there, 1), np.any(sure, 1), tracks.times))
    inside = np.zeros(len(tracks.times), bool)
    for interval in intervals:
        inside |= (tracks.times >= interval.first) & (tracks.times <= interval.last)
    faint = tracks.of(index, _PERHAPS).any(1)
    frames = np.flatnonzero(there[:, main])
    boxes = tracks.tokens[:, :, : SIZE.stop]
    motion, moves = _motion(boxes[frames, main], tracks.times[frames])
    color = None
    if CLASSES[_NAMES[index]].colored and alone:
        color = plain_color(tracks.tokens[frames, main, COLOR])
    area = np.where(there, boxes[..., 2] * boxes[..., 3], 0).max(1)
    sides = _sides(boxes[..., 0], there)
    return Thing(
        _NAMES[index],
        float(tracks.scores[:, tracks.classes == index].sum()),
        max(1, int(np.floor(usual + 0.5))),
        alone,
        intervals,
        not bool((faint & ~inside).any()),
        *sides,
        motion,
        moves,
        color,
        float(np.median(area[area > 0])),
    )


def _intervals(there: Flags, sure: Flags, times: Floats) -> Iterator[Interval]:
    """Stretches that have at least one sure frame; short gaps are closed."""
    frames = np.flatnonzero(there)
    if not len(frames):
        return
    apart = [
        i + 1
        for i, (a, b) in enumerate(pairwise(frames))
        if b - a - 1 >= _GAP_FRAMES and times[b] - times[a + 1] >= _GAP_SECONDS - 1e-6
    ]
    for run in np.split(frames, apart):
        a, b = int(run[0]), int(run[-1])
        if not sure[a : b + 1].any():
            continue
        # One frame without it at an end is more often a miss than a coming.
        comes = a >= _GAP_FRAMES or (a > 0 and times[a] - times[0] >= _GAP_SECONDS)
        rest = len(times) - 1 - b
        goes = rest >= _GAP_FRAMES or (rest > 0 and times[-1] - times[b] >= _GAP_SECONDS)
        yield Interval(
            float(times[a]),
            float(times[b]),
            float(times[a] + times[a - 1]) / 2 if comes else None,
            float(times[b] + times[b + 1]) / 2 if goes else None,
        )


def _side(x: float) -> str | None:
    if min(abs(x - 1 / 3), abs(x - 2 / 3)) < _BORDER:
        return None
    return SIDES[int(np.clip(x * 3, 0, 2))]


def _sides(x: Floats, there: Flags) -> tuple[str | None, str | None, str | None]:
    """Of all the clip, of the first and of the last moment; x and there are (T, S)."""
    frames = np.flatnonzero(there.any(1))
    ends = []
    for frame in (frames[0], frames[-1]):
        found = {_side(float(value)) for value in x[frame, there[frame]]}
        ends.append(found.pop() if len(found) == 1 else None)
    values = x[there]
    wide = np.quantile(values, 0.95) - np.quantile(values, 0.05) > _WIDE
    mean = None if wide else _side(float(values.mean()))
    # Several of a class on different sides are on none.
    several = {_side(float(x[there[:, s], s].mean())) for s in np.flatnonzero(there.any(0))}
    return (mean if several <= {mean, None} else None), ends[0], ends[1]


def _motion(boxes: Floats, times: Floats) -> tuple[str | None, bool | None]:
    """What a track (n, 4) does, and whether it moves at all; None where it is not plain."""
    if len(boxes) < 3:
        return None, None
    edge = max(1, len(boxes) // 5)
    start, end = np.median(boxes[:edge], 0), np.median(boxes[-edge:], 0)
    moved = end[:2] - start[:2]
    grown = float(np.sqrt(end[2:].prod() / max(start[2:].prod(), 1e-9)))
    reach = np.quantile(boxes[:, :2], 0.9, 0) - np.quantile(boxes[:, :2], 0.1, 0)
    x, y = float(abs(moved[0])), float(abs(moved[1]))
    if max(x, y) >= _MOVED and max(x, y) >= _AXIS * min(x, y):
        axis = int(y > x)
        return (("left", "right"), ("up", "down"))[axis][int(moved[axis] > 0)], True
    if max(x, y) < _MOVED and (grown > _GROWN or grown < 1 / _GROWN):
        return "nearer" if grown > 1 else "away", True
    if reach.max() < _RESTS and max(x, y) < _RESTS and 1 / _SAME_SIZE < grown < _SAME_SIZE:
        return "still", False
    return None, (True if reach.max() >= _MOVED else None)


def _beside(thing: Thing, things: list[Thing], tracks: _Tracks) -> Thing:
    """The thing with the classes that are near it in most of the frames that show both."""
    near: list[str] | None = []
    for other in things:
        if other is thing or near is None:
            continue
        gap = _gap(tracks, _NAMES.index(thing.name), _NAMES.index(other.name))
        if gap is None or gap >= _FAR:
            continue
        near = [*near, other.name] if gap <= _NEAR else None
    return replace(thing, near=None if near is None else tuple(near))


def _gap(tracks: _Tracks, one: int, other: int) -> float | None:
    """Median share of the frame between the nearest boxes of two classes; None if never at once."""
    a, b = tracks.of(one, _THERE), tracks.of(other, _THERE)
    gaps = []
    for frame in np.flatnonzero(a.any(1) & b.any(1)):
        some, others = (tracks.tokens[frame, found[frame], :4] for found in (a, b))
        apart = abs(some[:, None, :2] - others[None, :, :2])
        apart = apart - (some[:, None, 2:] + others[None, :, 2:]) / 2
        gaps.append(float(np.maximum(apart, 0).max(-1).min()))
    return float(np.median(gaps)) if gaps else None
