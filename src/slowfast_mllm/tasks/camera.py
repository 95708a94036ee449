"""How the camera moved in each shot, from how the picture as a whole moved ten times a second.

What stands still in the picture shows that the camera does, whatever moves before it. A movement
that goes on in one direction is a pan, tilt, zoom or roll; growth that no zoom explains, near
things faster than far ones, is a camera that travels; and small moves to and fro a camera in hands.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.tasks.flow import Floats, Movement, movement, pyramid
from slowfast_mllm.tasks.light import runs
from slowfast_mllm.tasks.results import Part, Seconds

_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_RATE = 10.0  # pictures a second that are looked at
_SPAN = 0.6  # seconds over which slow movements are measured
# Of (right, down, zoom, roll), a second and in all: what is less is no movement with a purpose.
# Widths of the picture, logarithms, radians. In hands, all move a little, all the time.
_LEAST_SPEED = np.array([0.02, 0.02, 0.012, 0.07])
_LEAST_WAY = np.array([0.04, 0.04, 0.02, 0.09])
_IN_HANDS = 2.5
_SHORTEST = 0.4  # seconds
_SLACK = 1e-4  # seconds that rounding may take
# What a movement must be beside the largest one at that time, at the border of the picture.
_BESIDE = np.array([0.35, 0.35, 0.1, 0.35])
_AT_BORDER = np.array([1.0, 1.0, 0.5, 0.5])
_SHAKE = 0.0008  # widths, the median distance from where a steady camera would be
_MOST_STILL = 0.5  # share of what is followed: where more stands still, so does the camera
_HARDLY_STILL = 0.15
_TRUSTED, _SURE = 0.12, 0.4  # share that must agree, of what is followed
_SEEN = 0.08  # share that must agree, of the picture
_TOLD = 0.25  # share of the time for which the picture tells
_OUTWARD, _EXPLAINED = 0.4, 0.35

_NAMES = (
    ("pan", "left", "right"),
    ("tilt", "up", "down"),
    ("zoom", "in", "out"),
    ("roll", "counter-clockwise", "clockwise"),
)


class CameraMove(Part):
    """One movement of the camera."""

    kind: Literal["pan", "tilt", "zoom", "roll", "travel", "hand-held"]
    """Hand-held: small moves to and fro; travel: the camera itself goes somewhere."""
    direction: (
        Literal["left", "right", "up", "down", "in", "out", "clockwise", "counter-clockwise"]
        | Literal["forward", "backward"]
        | None
    )
    """Which way the camera turned or went; null where it is hand-held."""
    start: Seconds
    """Where it begins."""
    end: Seconds
    """Where it ends."""
    amount: float | None
    """Pan and tilt: widths of the picture; zoom: factor; roll: degrees; otherwise null."""


@dataclass
class Camera:
    """Takes in frames; see `Measure`.

    Args:
        fps: frames a second; 0.0: unknown.
    """

    fps: float
    _count: int = 0
    _seen: list[int] = field(default_factory=list)  # positions of the frames that were looked at
    _last: deque[list[Floats]] = field(default_factory=deque)
    # Of each picture but the first: from the one before, and from the one `_far` before.
    _short: list[Movement] = field(default_factory=list)
    _long: list[Movement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._step = max(1, round((self.fps or 30.0) / _RATE))
        self._far = max(1, round(_SPAN * (self.fps or 30.0) / self._step))

    def see(self, picture: NDArray[np.uint8]) -> None:
        """Take in the next frame, uint8 (H, W, 3)."""
        position, self._count = self._count, self._count + 1
        if position % self._step:
            return
        self._seen.append(position)
        self._last.append(pyramid(picture @ _LUMA))
        if len(self._last) == 1:
            return
        before = self._short[-1].by if self._short else None
        self._short.append(movement(self._last[-2], self._last[-1], before))
        if len(self._last) > self._far:
            about = np.sum([each.by for each in self._short[-self._far :]], axis=0)
            far = movement(self._last[0], self._last[-1], about) if self._far > 1 else None
            self._long.append(far or self._short[-1])
            self._last.popleft()

    def moves(
        self, times: NDArray[np.float64], start: float, end: float
    ) -> list[CameraMove] | None:
        """How the camera moved in a shot, after the last frame was seen.

        Args:
            times: seconds (T,) of the frames.
            start, end: seconds of the shot, without what shows another one, too.

        Returns:
            In order of time; empty: it stood still. None: the picture does not tell.
        """
        seen = times[self._seen]
        short = _Track.of(self._short, seen, 1, start, end)
        track = _Track.of(self._long, seen, self._far, start, end)
        if not len(short):
            return None
        return _moves(track if len(track) else short, short, start, end)


@dataclass(frozen=True)
class _Track:
    """Movements in one shot: when (N, 2), how fast (N, 4), and what `Movement` says (N,)."""

    when: NDArray[np.float64]
    speed: NDArray[np.float64]
    agreeing: NDArray[np.float64]
    still: NDArray[np.float64]
    outward: NDArray[np.float64]
    followed: NDArray[np.float64]

    @classmethod
    def of(
        cls, moves: list[Movement], seen: NDArray[np.float64], far: int, start: float, end: float
    ) -> "_Track":
        """Those of `moves`, each over `far` of the pictures `seen`, that lie in the shot."""
        when = np.stack([seen[: len(moves)], seen[far : far + len(moves)]], -1)
        inside = (when[:, 0] > start - _SLACK) & (when[:, 1] < end - _SLACK)
        kept = [move for move, here in zip(moves, inside, strict=True) if here]
        when = when[inside]
        return cls(
            when,
            np.array([move.by for move in kept]).reshape(-1, 4) / np.diff(when),
            *(
                np.array([getattr(move, name) for move in kept])
                for name in ("agreeing", "still", "outward", "followed")
            ),
        )

    def __len__(self) -> int:
        return len(self.when)

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """Where enough can be followed and agrees."""
        return (self.agreeing >= _TRUSTED) & (self.agreeing * self.followed >= _SEEN)


def _moves(track: _Track, short: _Track, start: float, end: float) -> list[CameraMove] | None:
    travel = _travel(short)
    if travel is not None:
        return [CameraMove(kind="travel", direction=travel, start=start, end=end, amount=None)]
    in_hands = _in_hands(short)
    if not in_hands and short.trusted.mean() < _TOLD:
        return None
    moves = _directed(track, short, start, end, _IN_HANDS if in_hands else 1.0)
    if in_hands:
        held = CameraMove(kind="hand-held", direction=None, start=start, end=end, amount=None)
        moves.insert(0, held)
    return moves


def _travel(short: _Track) -> Literal["forward", "backward"] | None:
    """Most of the picture goes outward, and hardly in the way that a zoom would make it."""
    outward = float(np.median(short.outward))
    moving = np.median(short.still) < _MOST_STILL
    explained = np.median(short.agreeing - short.still) > _EXPLAINED
    if not moving or explained or abs(outward) < _OUTWARD:
        return None
    return "forward" if outward > 0 else "backward"


def _in_hands(short: _Track) -> bool:
    still = np.median(short.still)
    if still >= _MOST_STILL or len(short) < 4:
        return False
    sure = short.trusted & (short.agreeing > _SURE)
    if sure.mean() < 0.5:  # nothing agrees: what is near fills the picture, or the camera is shaken
        return bool(still < _HARDLY_STILL and np.median(short.followed) > 0.5)
    way = np.cumsum(short.speed[:, :2] * np.diff(short.when), axis=0)
    window = min(len(way), max(3, round(1 / np.median(np.diff(short.when)))) | 1)
    shake = np.array([way[i] - _around(way, i, window) for i in range(len(way))])[sure]
    return bool(np.median(np.abs(shake), axis=0).max() > _SHAKE)


def _around(values: NDArray[np.float64], middle: int, window: int) -> NDArray[np.float64]:
    """The middle of a parabola through the values around: a steady turn is no shake."""
    first = min(max(0, middle - window // 2), len(values) - window)
    place = np.arange(first, first + window) - middle
    terms = np.stack([place**0, place, place**2], -1).astype(np.float64)
    fitted: NDArray[np.float64] = np.linalg.lstsq(terms, values[first : first + window])[0][0]
    return fitted


def _directed(
    track: _Track, short: _Track, start: float, end: float, strictness: float
) -> list[CameraMove]:
    speed = _smoothed(_known_speed(track, short), track.when)
    border = np.abs(speed) * _AT_BORDER
    large = border >= _BESIDE * border.max(1, keepdims=True)
    large &= np.abs(speed) >= strictness * _LEAST_SPEED
    moves = []
    for axis, (kind, positive, negative) in enumerate(_NAMES):
        for sign, direction in ((1, positive), (-1, negative)):
            for span in runs(large[:, axis] & (speed[:, axis] * sign > 0)):
                since, until, way = _extent(track, speed[:, axis], span, start, end)
                long_enough = until - since >= _SHORTEST
                if long_enough and abs(way) >= strictness * _LEAST_WAY[axis]:
                    moves.append(
                        CameraMove.model_validate(
                            {
                                "kind": kind,
                                "direction": direction,
                                "start": since,
                                "end": until,
                                "amount": _amount(kind, way),
                            }
                        )
                    )
    return sorted(moves, key=lambda move: move.start)


def _known_speed(track: _Track, short: _Track) -> NDArray[np.float64]:
    """Speeds (N, 4); where movements are too fast for the longer times, over the shorter ones."""
    speed = np.where(track.trusted[:, None], track.speed, 0.0)
    middles = short.when.mean(1)
    for i in np.flatnonzero(~track.trusted):
        at = int(np.argmin(np.abs(middles - track.when[i].mean())))
        if short.trusted[at]:
            speed[i] = short.speed[at]
    speed[track.still >= _MOST_STILL] = 0.0
    return speed


def _smoothed(speed: NDArray[np.float64], when: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians over half a second."""
    step = float(np.median(np.diff(when[:, 0]))) if len(when) > 1 else 1.0
    half = max(0, round(0.25 / step))
    padded = np.pad(speed, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    middle: NDArray[np.float64] = np.median(windows, axis=-1)
    return middle


def _extent(
    track: _Track, speed: NDArray[np.float64], span: tuple[int, int], start: float, end: float
) -> tuple[float, float, float]:
    """Where a movement begins and ends, and how far it goes."""
    first, after = span
    middles = track.when.mean(1)
    since = start if first == 0 else float(middles[first])
    until = end if after == len(middles) else float(middles[after - 1])
    return since, until, float(speed[first:after].mean()) * (until - since)


def _amount(kind: str, way: float) -> float:
    if kind == "zoom":
        return round(float(np.exp(way)), 2)
    return round(float(np.degrees(abs(way))), 1) if kind == "roll" else round(abs(way), 2)
