"""Dense labels of frames: what is in every grid cell and how it moves, from the script alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.geometry import State, evaluate, object_center
from slowfast_mini.world.script import GLYPHS, JOLT_SECONDS, SHAPES, Flash, Needle, Script
from slowfast_mini.world.sprites import EXTENT, shape_table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EVENTS = ("appears", "leaves", "changes color")
_POINTS = 5  # sample points per cell side when the covered share of a cell is measured
_COVERED = 0.3
_GLYPH_COVERED = 0.25
_GLYPH_HIDES = 0.6
_STEP = 0.01
_LIT = 0.12  # gain below which a fade hides everything


@dataclass(frozen=True)
class DenseLabels:
    """Truth for T frames on a grid of G x G cells; rows come before columns.

    ``shape``, ``color``, ``glyph`` int64 (T, G, G): 0 for none, else 1 + index into SHAPES,
    COLORS, GLYPHS. ``object_motion`` float32 (T, G, G, 2): x, y displacement on the screen in
    cells per second of the object in the cell, 0 without one. ``event`` int64 (T, G, G): what
    happens to the object in the cell, 1 + index into EVENTS, 0 for nothing. ``camera_motion``
    float32 (T, 4): background displacement x, y at the frame centre in cells per second, the zoom
    rate (natural log) per second, and the clockwise turn of the picture in radians per second.
    ``cut``, ``needle`` bool (T,): a cut lies between the previous time and this; this is the
    inserted picture. ``steady`` bool (T,): neither, nor a jolt, is at this time or one of its
    neighbours, and there is light, so that the camera's motion can be seen.
    """

    shape: Ints
    color: Ints
    glyph: Ints
    object_motion: npt.NDArray[np.float32]
    event: Ints
    camera_motion: npt.NDArray[np.float32]
    cut: npt.NDArray[np.bool_]
    needle: npt.NDArray[np.bool_]
    steady: npt.NDArray[np.bool_]


def dense_labels(script: Script, timestamps: Floats, grid: int = 6) -> DenseLabels:
    """Labels of the frames at ``timestamps`` (T,) in seconds on a ``grid`` x ``grid`` board."""
    times = np.asarray(timestamps, dtype=np.float64)
    state = evaluate(script, times)
    count = len(times)
    owner = _owners(script, state, grid)
    glyph = np.zeros((count, grid, grid), dtype=np.int64)
    if script.flash is not None:
        share = _box_cover(script.flash, grid)
        glyph[state.flash] = (share > _GLYPH_COVERED) * (1 + GLYPHS.index(script.flash.glyph))
        owner[state.flash] *= share <= _GLYPH_HIDES
    shape_of = np.array([0] + [1 + SHAPES.index(o.shape) for o in script.objects])
    none = np.zeros((count, 1), dtype=np.int64)
    color_of = np.concatenate([none, 1 + state.color], axis=1)
    event_of = np.concatenate([none, _events(state)], axis=1)
    moves = np.concatenate([np.zeros((count, 1, 2)), _object_motion(script, times, state)], axis=1)
    row = np.arange(count)[:, None, None]
    shape, color = shape_of[owner], color_of[row, owner]
    if script.needle is not None and state.needle.any():
        inside = _needle_cover(script.needle, grid)
        shape[state.needle] = inside * (1 + SHAPES.index(script.needle.shape))
        color[state.needle] = inside * (1 + COLORS.index(script.needle.color))
    cut = np.zeros(count, dtype=bool)
    cut[1:] = state.shot[1:] != state.shot[:-1]
    odd = state.needle.copy()
    for time, *_ in script.camera.jolts:
        odd |= (times >= time) & (times < time + JOLT_SECONDS)
    broken = cut | odd
    broken[:-1] |= cut[1:] | odd[1:]
    broken[1:] |= odd[:-1]
    return DenseLabels(
        shape=shape,
        color=color,
        glyph=glyph,
        object_motion=(moves[row, owner] * grid).astype(np.float32),
        event=event_of[row, owner],
        camera_motion=_camera_motion(script, state, grid),
        cut=cut,
        needle=state.needle,
        steady=~broken & (state.gain > _LIT),
    )


def _events(state: State) -> Ints:
    """What happens to each object at each time (T, N); see ``DenseLabels.event``."""
    event = np.zeros(state.alive.shape, dtype=np.int64)
    event[1:][state.color[1:] != state.color[:-1]] = 1 + EVENTS.index("changes color")
    event[:-1][state.alive[:-1] & ~state.alive[1:]] = 1 + EVENTS.index("leaves")
    event[1:][state.alive[1:] & ~state.alive[:-1]] = 1 + EVENTS.index("appears")
    return event


def _needle_cover(needle: Needle, grid: int) -> Ints:
    """Which cells (G, G) the shape of the inserted picture covers: 0 or 1."""
    axis = (np.arange(grid) + 0.5) / grid - 0.5
    near = np.hypot(axis[:, None], axis[None, :]) < 0.5 * max(needle.size, 0.3)
    return near.astype(np.int64)


def _owners(script: Script, state: State, grid: int) -> Ints:
    """1 + index of the object that owns each cell, 0 for none, (T, G, G)."""
    axis = (np.arange(grid * _POINTS) + 0.5) / (grid * _POINTS)
    shares = np.zeros((len(script.objects) + 1, len(state.gain), grid, grid))
    shares[0] = 1e-9
    drawn = state.alive & ((state.gain > _LIT) & ~state.needle)[:, None]
    for index, obj in enumerate(script.objects):
        rows = np.flatnonzero(drawn[:, index])
        if len(rows) == 0:
            continue
        inside = _silhouette(obj.shape, obj.angle + state.turn[rows], state, rows, index, axis)
        blocks = inside.reshape(len(rows), grid, _POINTS, grid, _POINTS)
        share = blocks.mean(axis=(2, 4))
        share[share <= _COVERED] = 0.0
        center = state.center[rows, index]
        home = np.floor(center * grid).astype(np.int64)
        ok = ((home >= 0) & (home < grid)).all(axis=1)
        at = (np.flatnonzero(ok), home[ok, 1], home[ok, 0])
        share[at] = np.maximum(share[at], 0.5)
        shares[index + 1, rows] = share
    owner: Ints = shares.argmax(axis=0)
    return owner


def _silhouette(
    shape: str, angle: Floats, state: State, rows: Ints, index: int, axis: Floats
) -> npt.NDArray[np.bool_]:
    """Which sample points (n, P, P) lie in the object; the hole of a ring counts as inside."""
    center, radius = state.center[rows, index], 0.5 * state.size[rows, index]
    dx = axis[None, None, :] - center[:, 0, None, None]
    dy = axis[None, :, None] - center[:, 1, None, None]
    unit = radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = (cos * dx + sin * dy) / unit, (cos * dy - sin * dx) / unit
    table = shape_table("circle" if shape == "ring" else shape)[0, 0].numpy()
    last = table.shape[0] - 1
    column = np.clip(np.rint((x / EXTENT + 1) / 2 * last), 0, last).astype(np.int64)
    row = np.clip(np.rint((y / EXTENT + 1) / 2 * last), 0, last).astype(np.int64)
    found: npt.NDArray[np.bool_] = table[row, column] < 0
    return found


def _box_cover(flash: Flash, grid: int) -> Floats:
    """Share of each cell (G, G) that the box of the glyph covers."""
    edges = np.arange(grid + 1) / grid
    overlap = []
    for middle in flash.position:
        low, high = middle - flash.size / 2, middle + flash.size / 2
        shared = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        overlap.append(np.maximum(shared, 0.0) * grid)
    cover: Floats = overlap[1][:, None] * overlap[0][None, :]
    return cover


def _object_motion(script: Script, times: Floats, state: State) -> Floats:
    """Screen velocity (T, N, 2) of each object in frame sides per second, without the shake."""
    motion = np.zeros((len(times), len(script.objects), 2))
    for index, obj in enumerate(script.objects):
        after = object_center(script, obj, times + _STEP, state.shot, shake=False)
        before = object_center(script, obj, times - _STEP, state.shot, shake=False)
        motion[:, index] = (after - before) / (2 * _STEP)
    return motion


def _camera_motion(script: Script, state: State, grid: int) -> npt.NDArray[np.float32]:
    """Background velocity on the screen, (T, 4) float32; see ``DenseLabels``."""
    drift = -np.array(script.camera.velocity) * state.zoom[:, None] * grid
    rates = np.tile([script.camera.zoom_rate, script.camera.turn_rate], (len(drift), 1))
    return np.concatenate([drift, rates], axis=1).astype(np.float32)
