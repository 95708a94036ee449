"""Samples scripts: a seed decides what is in a clip, when and where."""

from __future__ import annotations

import colorsys
import itertools
from dataclasses import replace

import numpy as np

from slowfast_mini.world.colors import COLORS, RGB, color_rgb
from slowfast_mini.world.layout import Track, place
from slowfast_mini.world.script import (
    CAMERA_MOTIONS,
    DIRECTIONS,
    FADES,
    GLYPHS,
    HOP_SECONDS,
    HOP_SPACING,
    MOST_CUTS,
    NO_FADE,
    SHAPES,
    Camera,
    ColorChange,
    Distractor,
    Fade,
    Flash,
    Needle,
    Object,
    Script,
    Shot,
    stream,
)

_SHORTEST_SHOT = 1.05  # seconds
_QUIET = 0.06  # share of clips in which nothing happens at all


def sample_script(seed: int) -> Script:
    """The clip with this number; the same number always gives the same script."""
    rng = stream(seed, "script")
    duration = float(rng.uniform(4.0, 12.0))
    if rng.random() < _QUIET:
        shots: tuple[Shot, ...] = (Shot(0.0, duration, int(rng.integers(2**31))),)
        camera = Camera("still", 0.0, 0.0, (0.0, 0.0))
        objects = _sample_objects(stream(seed, "objects"), duration, NO_FADE, shots, camera, True)
        return Script(seed, duration, camera, shots, objects, None, NO_FADE, None, ())
    fade = _sample_fade(rng)
    shots = _sample_shots(rng, duration)
    camera = _sample_camera(rng, max(shot.end - shot.start for shot in shots))
    objects = _sample_objects(stream(seed, "objects"), duration, fade, shots, camera)
    flash = _sample_flash(stream(seed, "flash"), duration, fade)
    needle = _sample_needle(stream(seed, "needle"), duration, fade, shots, flash, objects)
    distractors = _sample_distractors(stream(seed, "distractors"))
    camera = replace(camera, jolts=_sample_jolts(stream(seed, "jolts"), duration))
    return Script(seed, duration, camera, shots, objects, flash, fade, needle, distractors)


def _sample_fade(rng: np.random.Generator) -> Fade:
    kind = str(rng.choice(FADES, p=(0.7, 0.15, 0.15)))
    return NO_FADE if kind == "none" else Fade(kind, float(rng.uniform(0.7, 1.0)))


def _sample_shots(rng: np.random.Generator, duration: float) -> tuple[Shot, ...]:
    room = int(duration / _SHORTEST_SHOT) - 1
    cuts = min(int(rng.choice(MOST_CUTS + 1, p=(0.5, 0.2, 0.14, 0.08, 0.08))), room)
    # Every shot gets its second, the rest of the time is shared out at random.
    extra = np.sort(rng.uniform(0.0, duration - (cuts + 1) * _SHORTEST_SHOT, size=cuts))
    inner = [float(e + _SHORTEST_SHOT * (k + 1)) for k, e in enumerate(extra)]
    bounds = [0.0, *inner, duration]
    return tuple(Shot(a, b, int(rng.integers(2**31))) for a, b in itertools.pairwise(bounds))


def _sample_camera(rng: np.random.Generator, longest: float) -> Camera:
    chances = [0.36] + [0.08] * 8
    motion = str(rng.choice(CAMERA_MOTIONS, p=chances))
    # The travel within a shot is bounded so that what is anchored in the world stays in sight.
    if motion == "still":
        speed = 0.0
    elif motion.startswith("zoom"):
        speed = float(np.clip(rng.uniform(0.45, 0.85) / longest, 0.07, 0.25))
    elif motion.startswith("roll"):
        speed = float(np.clip(rng.uniform(0.45, 0.8) / longest, 0.08, 0.3))
    else:
        speed = float(np.clip(rng.uniform(0.4, 0.72) / longest, 0.06, 0.25))
    shake = float(rng.uniform(0.001, 0.006)) if rng.random() < 0.4 else 0.0
    return Camera(motion, speed, shake, (float(rng.uniform(0, 6.3)), float(rng.uniform(0, 6.3))))


def _sample_jolts(
    rng: np.random.Generator, duration: float
) -> tuple[tuple[float, float, float], ...]:
    if rng.random() >= 0.12:
        return ()
    times = np.sort(rng.uniform(0.3, duration - 0.3, size=int(rng.integers(1, 5))))
    ways = rng.uniform(0.0, 2 * np.pi, size=len(times))
    reach = rng.uniform(0.03, 0.14, size=len(times))
    pushes = zip(times, reach * np.cos(ways), reach * np.sin(ways), strict=True)
    return tuple((float(t), float(x), float(y)) for t, x, y in pushes)


def _brief(rng: np.random.Generator, duration: float, fade: Fade) -> tuple[float, float]:
    """Time and duration of something that 32 frames see at least once and at most twice."""
    length = duration / 32.0 * float(rng.uniform(1.06, 1.95))
    first = 0.8 + (fade.duration if fade.kind == "in" else 0.0)
    last = duration - length - 0.3 - (fade.duration if fade.kind == "out" else 0.0)
    return float(rng.uniform(first, last)), length


def _sample_flash(rng: np.random.Generator, duration: float, fade: Fade) -> Flash | None:
    if rng.random() >= 0.55:
        return None
    time, length = _brief(rng, duration, fade)
    size = float(rng.uniform(18.0, 30.0)) / 96.0
    position = rng.uniform(0.55 * size, 1.0 - 0.55 * size, size=2)
    light: RGB = colorsys.hsv_to_rgb(rng.random(), float(rng.choice([0.0, 0.25, 0.5])), 1.0)
    dark: RGB = colorsys.hsv_to_rgb(rng.random(), rng.random(), float(rng.uniform(0.0, 0.25)))
    color, backing = (light, dark) if rng.random() < 0.6 else (dark, light)
    return Flash(
        glyph=str(rng.choice(GLYPHS)),
        time=time,
        duration=length,
        position=(float(position[0]), float(position[1])),
        size=size,
        color=color,
        backing=backing,
        plate=bool(rng.random() < 0.5),
    )


def _sample_needle(
    rng: np.random.Generator,
    duration: float,
    fade: Fade,
    shots: tuple[Shot, ...],
    flash: Flash | None,
    objects: tuple[Object, ...],
) -> Needle | None:
    """Now and then, where it meets neither a cut nor the flash, and unlike any object."""
    if rng.random() >= 0.3:
        return None
    time, length = _brief(rng, duration, fade)
    busy = [(shot.start, 0.0) for shot in shots[1:]]
    busy += [(flash.time, flash.duration)] if flash else []
    if any(time - d - 0.45 < at < time + length + 0.45 for at, d in busy):
        return None
    taken = {o.color for o in objects} | {o.change.color for o in objects if o.change}
    color = str(rng.choice([c for c in COLORS if c not in taken]))
    shapes = {o.shape for o in objects}
    return Needle(
        time=time,
        duration=length,
        color=color,
        rgb=color_rgb(color, rng),
        shape=str(rng.choice([s for s in SHAPES if s not in shapes])),
        size=float(rng.uniform(0.45, 0.8)),
        seed=int(rng.integers(2**31)),
    )


def _sample_distractors(rng: np.random.Generator) -> tuple[Distractor, ...]:
    """None, some that wander, or one or two that are large and fast, as what is near a lens is.

    The fastest are in sight for a frame or two at a time, like hands that reach in.
    """
    kind = rng.random()
    if kind >= 0.55:
        return ()
    near = kind >= 0.25
    pace = (1.2 if kind >= 0.4 else 0.3) if near else 0.08
    found = []
    for _ in range(int(rng.integers(1, 3 if near else 4))):
        at, velocity = rng.uniform(0.0, 1.0, size=2), rng.normal(0.0, pace, size=2)
        found.append(
            Distractor(
                seed=int(rng.integers(2**31)),
                at=(float(at[0]), float(at[1])),
                velocity=(float(velocity[0]), float(velocity[1])),
                swing=float(rng.uniform(0.0, 0.4 if near else 0.08)),
                size=float(rng.uniform(0.6, 1.8) if near else rng.uniform(0.12, 0.45)),
            )
        )
    return tuple(found)


def _sample_looks(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """(colour, shape) pairs without a repeated pair; some clips repeat a shape or a colour."""
    colors = [str(c) for c in rng.permutation(COLORS)[:count]]
    shapes = [str(s) for s in rng.permutation(SHAPES)[:count]]
    repeat = rng.random()
    if count > 1 and repeat < 0.35:
        repeats = int(rng.integers(2, count + 1))
        target = shapes if repeat < 0.2 else colors
        target[:repeats] = [target[0]] * repeats
    return [(colors[i], shapes[i]) for i in rng.permutation(count)]


def _sample_times(
    rng: np.random.Generator, count: int, duration: float, fade: Fade, cuts: list[float]
) -> list[tuple[float, float]]:
    """Appearance and disappearance of each object; late appearances are >= 1 s apart."""
    first = 0.8 + (fade.duration if fade.kind == "in" else 0.0)
    last = duration - 1.3 - (fade.duration if fade.kind == "out" else 0.0)
    appears: list[float] = []
    for index in range(count):
        time = 0.0
        if (index == 0 and rng.random() < 0.75) or rng.random() < 0.4:
            appears.append(time)
            continue
        for _ in range(12):
            candidate = float(rng.uniform(first, last))
            near_cut = min((abs(candidate - c) for c in cuts), default=9.0) < 0.45
            if not near_cut and min((abs(candidate - a) for a in appears), default=9.0) >= 1.0:
                time = candidate
                break
        appears.append(time)
    times = []
    for appear in appears:
        leave = duration
        if last - appear > 2.0 and rng.random() < 0.3:
            leave = float(rng.uniform(appear + 1.6, last + 0.5))
        times.append((appear, leave))
    return times


def _longest_span(appear: float, leave: float, shots: tuple[Shot, ...]) -> float:
    return max(min(leave, s.end) - max(appear, s.start) for s in shots)


def _sample_motion(
    rng: np.random.Generator, span: float, camera: Camera, size: float
) -> tuple[str, float]:
    """Own motion and its speed, such that the object can stay in the frame for ``span``."""
    kind = camera.motion.partition(" ")[0]
    # Along a pan the camera already uses the room, so own motion is across it there.
    ways = {"pan": ["up", "down"], "tilt": ["left", "right"]}.get(
        kind, ["left", "right", "up", "down"]
    )
    if rng.random() < (0.32 if kind == "still" else 0.6):
        return "still", 0.0
    room = (0.95 - size) * (0.55 if kind in ("zoom", "roll") else 1.0)
    speed = float(np.clip(room * rng.uniform(0.3, 0.95) / span, 0.04, 0.26))
    return str(rng.choice(ways)), speed


def _sample_change(
    rng: np.random.Generator,
    looks: list[tuple[str, str]],
    times: list[tuple[float, float]],
    cuts: list[float],
) -> tuple[int, ColorChange] | None:
    """At most one object changes its colour, well away from cuts and from its own end."""
    index = int(rng.integers(len(looks)))
    appear, leave = times[index]
    if rng.random() >= 0.4 or leave - appear < 3.2:
        return None
    time = float(rng.uniform(appear + 1.2, leave - 1.6))
    if min((abs(time - c) for c in cuts), default=9.0) < 0.7:
        return None
    free = [c for c in COLORS if c not in {color for color, _ in looks}]
    color = str(rng.choice(free))
    return index, ColorChange(time, color, color_rgb(color, rng))


def _sample_hops(
    rng: np.random.Generator,
    motions: list[tuple[str, float]],
    times: list[tuple[float, float]],
    cuts: list[float],
) -> tuple[int, tuple[float, ...]] | None:
    """At most one object, which does not move otherwise, jumps one to four times."""
    resting = [
        i
        for i, (appear, leave) in enumerate(times)
        if motions[i][0] == "still" and leave - appear > 2.5
    ]
    if not resting or rng.random() >= 0.4:
        return None
    index = int(rng.choice(resting))
    appear, leave = times[index]
    room = leave - appear - 0.5 - HOP_SECONDS
    count = min(int(rng.integers(1, 5)), 1 + int(room / HOP_SPACING))
    free = room - (count - 1) * HOP_SPACING
    starts = appear + 0.25 + np.sort(rng.uniform(0, free, size=count))
    hops = starts + HOP_SPACING * np.arange(count)
    away = [t for t in hops if all(t - 0.45 > c or c > t + HOP_SECONDS + 0.45 for c in cuts)]
    return (index, tuple(float(t) for t in away)) if away else None


def _sample_objects(
    rng: np.random.Generator,
    duration: float,
    fade: Fade,
    shots: tuple[Shot, ...],
    camera: Camera,
    quiet: bool = False,
) -> tuple[Object, ...]:
    """``quiet`` ones are there from the first to the last frame and do nothing."""
    count = int(rng.integers(1, 5))
    cuts = [shot.start for shot in shots[1:]]
    looks = _sample_looks(rng, count)
    times = _sample_times(rng, count, duration, fade, cuts)
    change = _sample_change(rng, looks, times, cuts)
    if quiet:
        times, change = [(0.0, duration)] * count, None
    motions: list[tuple[str, float]] = []
    sizes: list[float] = []
    low, high = (18.0, 25.0) if camera.zoom_rate else (14.0, 30.0 if count < 3 else 25.0)
    for appear, leave in times:
        sizes.append(float(rng.uniform(low, high)) / 96.0)
        motion = _sample_motion(rng, _longest_span(appear, leave, shots), camera, sizes[-1])
        motions.append(("still", 0.0) if quiet else motion)
    hops = None if quiet else _sample_hops(rng, motions, times, cuts)
    height = float(rng.uniform(0.14, 0.24))
    tracks: list[Track] = []
    for index, (appear, leave) in enumerate(times):
        (dx, dy), speed = DIRECTIONS[motions[index][0]], motions[index][1]
        lift = height if hops is not None and hops[0] == index else 0.0
        tracks.append(Track(sizes[index], (dx * speed, dy * speed), appear, leave, lift))
    bounds = [(shot.start, shot.end) for shot in shots]
    placed = place(
        rng, tracks, bounds, camera.velocity, camera.zoom_rate, turn_rate=camera.turn_rate
    )
    objects = []
    for index, (size, positions) in enumerate(placed):
        (color, shape), (appear, leave) = looks[index], times[index]
        motion_name, speed = motions[index]
        objects.append(
            Object(
                shape=shape,
                color=color,
                rgb=color_rgb(color, rng),
                size=size,
                angle=float(rng.uniform(-0.26, 0.26)),
                motion=motion_name,
                speed=speed,
                appear=appear,
                disappear=leave,
                slides_in=bool(appear > 0 and motion_name != "still" and rng.random() < 0.6),
                positions=positions,
                change=change[1] if change is not None and change[0] == index else None,
                hops=hops[1] if hops is not None and hops[0] == index else (),
                hop_height=height,
            )
        )
    return tuple(objects)
