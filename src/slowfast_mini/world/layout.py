"""Where the objects of a clip go: random places whose paths stay in sight and keep apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Placed = list[tuple[float, tuple[tuple[float, float], ...]]]

_CANDIDATES = 48
_SAMPLES = 9
_SMALLEST = 14.0 / 96.0


@dataclass(frozen=True)
class Track:
    """What the placement needs to know of one object; see ``script.Object`` for the units."""

    size: float
    velocity: tuple[float, float]
    appear: float
    leave: float
    lift: float = 0.0  # how far up it jumps


def turned(points: Floats, angle: Floats) -> Floats:
    """Points (..., T, 2) around the origin, turned clockwise by ``angle`` (T,) radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def place(
    rng: np.random.Generator,
    tracks: list[Track],
    shots: list[tuple[float, float]],
    pan: tuple[float, float],
    zoom_rate: float,
    turn_rate: float,
) -> Placed:
    """Size and world position at every shot's start, for each object that found room.

    Crowded clips are tried again with smaller objects; when that does not help the last object
    is left out, so the result may be shorter than ``tracks`` (never empty).
    """
    for shrink in (1.0, 0.85, 0.7):
        sized = [replace(track, size=max(track.size * shrink, _SMALLEST)) for track in tracks]
        clash = 0.0
        columns = []
        for start, end in shots:
            positions, worst = _place_shot(
                rng, sized, start, end, np.array(pan), zoom_rate, turn_rate
            )
            columns.append(positions)
            clash = max(clash, worst)
        if clash < 0.25:
            break
    if clash >= 0.45 and len(tracks) > 1:
        return place(rng, tracks[:-1], shots, pan, zoom_rate, turn_rate)
    return [
        (t.size, tuple((float(c[i, 0]), float(c[i, 1])) for c in columns))
        for i, t in enumerate(sized)
    ]


def _place_shot(
    rng: np.random.Generator,
    tracks: list[Track],
    start: float,
    end: float,
    pan: Floats,
    zoom_rate: float,
    turn_rate: float,
) -> tuple[Floats, float]:
    """World positions at the shot's start (N, 2) and the worst remaining clash in [0, 1]."""
    times = np.linspace(start, end, _SAMPLES)
    middle = 0.5 * (start + end)
    zoom = np.exp(zoom_rate * (times - middle))
    angle = turn_rate * (times - middle)
    camera = (times - middle)[:, None] * pan
    result = np.full((len(tracks), 2), 0.5)
    paths: list[tuple[Floats, npt.NDArray[np.bool_], float]] = []
    worst = 0.0
    for index, track in enumerate(tracks):
        begin, stop = max(track.appear, start), min(track.leave, end)
        if stop <= begin:
            continue
        velocity = np.array(track.velocity)
        center = 0.5 * (begin + stop)
        margin = 0.4 * track.size + np.abs(velocity - pan) * 0.5 * (stop - begin)
        low = np.minimum(margin, 0.5)
        anchor = rng.uniform(low, 1.0 - low, size=(_CANDIDATES, 2))
        anchor += (center - middle) * pan - (center - start) * velocity
        path = anchor[:, None] + (times - start)[:, None] * velocity
        screen = 0.5 + turned((path - 0.5 - camera) * zoom[:, None], angle)
        alive = (times >= begin - 1e-9) & (times <= stop + 1e-9)
        if not alive.any():
            alive[np.argmin(np.abs(times - center))] = True
        edge = 0.35 * track.size * zoom[:, None]
        upper = edge + np.array([0.0, track.lift])
        outside = np.maximum(upper - screen, screen - (1.0 - edge))[:, alive].max(axis=(1, 2))
        cost = np.maximum(outside, 0.0) / track.size
        for other, other_alive, size in paths:
            both = alive & other_alive
            if both.any():
                gap = np.linalg.norm(screen[:, both] - other[both], axis=-1) / zoom[both]
                cost = np.maximum(cost, 1.0 - gap.min(axis=1) / (0.55 * (track.size + size)))
        best = int(np.argmin(cost))
        worst = max(worst, float(cost[best]))
        result[index] = anchor[best]
        paths.append((screen[best], alive, track.size))
    return result, worst
