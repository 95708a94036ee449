"""The state of a script at given times: camera, shots, fades, and objects on the screen.

Rendering, labels and questions all read the truth from here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.layout import turned
from slowfast_mini.world.script import (
    DIRECTIONS,
    HOP_SECONDS,
    JOLT_SECONDS,
    Distractor,
    Flash,
    Needle,
    Object,
    Script,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SLIDE_SECONDS = 0.45
SEEN_GAIN = 0.3
_SHAKE_HZ = (1.7, 2.3)


@dataclass(frozen=True)
class State:
    """T times, N objects. Screen positions and sizes are fractions of the frame side.

    ``shot`` (T,) shot index; ``gain`` (T,) brightness 0..1 from fades; ``center`` (T, N, 2) and
    ``size`` (T, N) of each object on the screen; ``alive`` (T, N) present by the script;
    ``visible`` (T, N) present, in the frame, and not faded away; ``color`` (T, N) index into
    COLORS; ``flash`` (T,) the glyph can be read; ``needle`` (T,) the inserted picture is shown,
    and nothing else is visible. ``offset`` (T, 2), ``zoom`` (T,) and ``turn`` (T,) are those of
    ``camera_at``.
    """

    shot: Ints
    gain: Floats
    center: Floats
    size: Floats
    alive: Bools
    visible: Bools
    color: Ints
    flash: Bools
    needle: Bools
    offset: Floats
    zoom: Floats
    turn: Floats


def shot_index(script: Script, times: Floats) -> Ints:
    """Index (T,) of the shot on air at each time."""
    return np.searchsorted(np.array(script.cuts), times, side="right").astype(np.int64)


def fade_gain(script: Script, times: Floats) -> Floats:
    """Brightness factor (T,) in [0, 1]."""
    fade = script.fade
    if fade.kind == "none":
        return np.ones_like(times)
    # A fade out ends slightly before the clip does, so that its last frames are really dark.
    left = times if fade.kind == "in" else 0.99 * script.duration - times
    return np.clip(left / fade.duration, 0.0, 1.0)


def camera_at(
    script: Script, times: Floats, shot: Ints, shake: bool = True
) -> tuple[Floats, Floats, Floats]:
    """Camera offset (T, 2) in world units, zoom (T,) and clockwise turn (T,) of the picture.

    Jolts count as shake.
    screen = .5 + turned((world - .5 - offset) * zoom).
    """
    camera = script.camera
    since = times - np.array([s.middle for s in script.shots])[shot]
    offset = since[:, None] * np.array(camera.velocity)
    if shake and camera.shake > 0:
        angles = 2 * np.pi * times[:, None] * np.array(_SHAKE_HZ) + np.array(camera.shake_phase)
        offset = offset + camera.shake * np.sin(angles)
    for time, *push in camera.jolts if shake else ():
        share = np.clip((times - time) / JOLT_SECONDS, 0.0, 1.0)
        # Out in a tenth of a second, back in the rest.
        offset = offset + np.sin(np.pi * share**0.4)[:, None] * np.array(push)
    return offset, np.exp(camera.zoom_rate * since), camera.turn_rate * since


def during(event: Flash | Needle | None, times: Floats) -> Bools:
    """At which times (T,) an event lasts."""
    if event is None:
        return np.zeros(len(times), dtype=bool)
    return (times >= event.time) & (times < event.time + event.duration)


def on_screen(script: Script, world: Floats, times: Floats, shot: Ints, shake: bool) -> Floats:
    """Where points (T, 2) of the world are on the screen (T, 2)."""
    offset, zoom, turn = camera_at(script, times, shot, shake)
    return 0.5 + turned((world - 0.5 - offset) * zoom[:, None], turn)


def object_center(
    script: Script, obj: Object, times: Floats, shot: Ints, shake: bool = True
) -> Floats:
    """Centre (T, 2) of an object on the screen, as if it were always there."""
    starts = np.array([s.start for s in script.shots])[shot]
    anchor = np.array(obj.positions)[shot]
    world = anchor + (times - starts)[:, None] * np.array(obj.velocity)
    for hop in obj.hops:
        share = np.clip((times - hop) / HOP_SECONDS, 0.0, 1.0)
        world[:, 1] -= obj.hop_height * np.sin(np.pi * share)
    center = on_screen(script, world, times, shot, shake)
    if obj.slides_in:
        center = center + _slide(obj, center, times)
    return center


def distractor_center(script: Script, blob: Distractor, times: Floats, shot: Ints) -> Floats:
    """Centre (T, 2) of a distractor on the screen; it comes back when it has left."""
    wave = np.stack([np.sin(1.3 * times + blob.seed), np.sin(1.9 * times + 2 * blob.seed)], -1)
    path = np.array(blob.at) + times[:, None] * np.array(blob.velocity) + blob.swing * wave
    beyond = max(0.3, 0.6 * blob.size)  # where it cannot be seen any more
    path = (path + beyond) % (1 + 2 * beyond) - beyond
    return on_screen(script, path, times, shot, shake=True)


def _slide(obj: Object, center: Floats, times: Floats) -> Floats:
    """Extra screen offset (T, 2) while an object comes in over the edge behind it."""
    way = np.array(DIRECTIONS[obj.motion])
    left = np.clip(1.0 - (times - obj.appear) / SLIDE_SECONDS, 0.0, 1.0)
    along = center @ way
    distance = np.where(way.sum() > 0, along, 1.0 + along) + 0.6 * obj.size
    return -(left * np.maximum(distance, 0.0))[:, None] * way


def evaluate(script: Script, timestamps: Floats) -> State:
    """The truth at ``timestamps`` (T,) in seconds."""
    times = np.asarray(timestamps, dtype=np.float64)
    shot = shot_index(script, times)
    gain = fade_gain(script, times)
    offset, zoom, turn = camera_at(script, times, shot)
    count = len(script.objects)
    center = np.zeros((len(times), count, 2))
    size = np.zeros((len(times), count))
    alive = np.zeros((len(times), count), dtype=bool)
    color = np.zeros((len(times), count), dtype=np.int64)
    for index, obj in enumerate(script.objects):
        center[:, index] = object_center(script, obj, times, shot)
        size[:, index] = obj.size * zoom
        alive[:, index] = (times >= obj.appear) & (times < obj.disappear)
        color[:, index] = COLORS.index(obj.color)
        if obj.change is not None:
            color[times >= obj.change.time, index] = COLORS.index(obj.change.color)
    inside = ((center > 0.0) & (center < 1.0)).all(axis=-1)
    needle = during(script.needle, times)
    seen = (gain > SEEN_GAIN) & ~needle
    flash = seen & during(script.flash, times)
    visible = alive & inside & seen[:, None]
    return State(shot, gain, center, size, alive, visible, color, flash, needle, offset, zoom, turn)
