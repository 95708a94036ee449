"""Scripts of procedural clips: what is in a clip, when and where, before any pixel is drawn.

Lengths are fractions of the frame side, times are seconds, angles are radians. x grows to the
right and y grows downwards. The world equals the screen where the camera offset is 0 and its
zoom is 1, so the frame covers [0, 1] x [0, 1] of the world there.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from slowfast_mini.world.colors import RGB

CAMERA_MOTIONS = (
    "still",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "roll clockwise",
    "roll counterclockwise",
)
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
GLYPHS = tuple("0123456789ACEFHKLPTX")
OBJECT_MOTIONS = ("still", "left", "right", "up", "down")
FADES = ("none", "in", "out")
HOP_SECONDS = 0.7
JOLT_SECONDS = 0.6
HOP_SPACING = 1.2  # from one jump to the next, so that 32 frames show the rest between them
MOST_CUTS = 4

DIRECTIONS: dict[str, tuple[float, float]] = {
    "still": (0.0, 0.0),
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}


@dataclass(frozen=True)
class Camera:
    """One motion for the whole clip; speed in frame sides, natural zoom log or radians a second.

    ``jolts`` are (time, x, y): something pushes the camera by so many frame sides, and it swings
    back within ``JOLT_SECONDS``.
    """

    motion: str
    speed: float
    shake: float
    shake_phase: tuple[float, float]
    jolts: tuple[tuple[float, float, float], ...] = ()

    @property
    def rests(self) -> bool:
        """Neither moved nor shaken nor pushed."""
        return self.motion == "still" and self.shake == 0.0 and not self.jolts

    @property
    def velocity(self) -> tuple[float, float]:
        """Velocity of the camera over the world, frame sides per second."""
        kind, _, way = self.motion.partition(" ")
        dx, dy = DIRECTIONS[way] if kind in ("pan", "tilt") else (0.0, 0.0)
        return dx * self.speed, dy * self.speed

    @property
    def zoom_rate(self) -> float:
        """Growth of the log zoom per second; positive when zooming in."""
        return {"zoom in": self.speed, "zoom out": -self.speed}.get(self.motion, 0.0)

    @property
    def turn_rate(self) -> float:
        """Clockwise turn of the picture per second: against the roll of the camera."""
        turns = {"roll clockwise": -self.speed, "roll counterclockwise": self.speed}
        return turns.get(self.motion, 0.0)


@dataclass(frozen=True)
class Shot:
    """A stretch without a cut; ``seed`` fixes its background."""

    start: float
    end: float
    seed: int

    @property
    def middle(self) -> float:
        """The time at which the camera offset is 0 and its zoom is 1."""
        return 0.5 * (self.start + self.end)


@dataclass(frozen=True)
class ColorChange:
    """From ``time`` on the object has another colour."""

    time: float
    color: str
    rgb: RGB


@dataclass(frozen=True)
class Object:
    """A flat coloured shape; ``positions[k]`` is its world centre at the start of shot k.

    ``hops`` are the times at which it begins to jump, ``hop_height`` in frame sides.
    """

    shape: str
    color: str
    rgb: RGB
    size: float
    angle: float
    motion: str
    speed: float
    appear: float
    disappear: float
    slides_in: bool
    positions: tuple[tuple[float, float], ...]
    change: ColorChange | None
    hops: tuple[float, ...] = ()
    hop_height: float = 0.0

    @property
    def velocity(self) -> tuple[float, float]:
        """Own velocity in the world, frame sides per second."""
        dx, dy = DIRECTIONS[self.motion]
        return dx * self.speed, dy * self.speed


@dataclass(frozen=True)
class Distractor:
    """A grey, textured blob behind the objects that is no object: it wanders about, or sweeps by.

    ``at`` and ``velocity`` in the world; ``swing`` is the amplitude of its detours.
    """

    seed: int
    at: tuple[float, float]
    velocity: tuple[float, float]
    swing: float
    size: float


@dataclass(frozen=True)
class Needle:
    """A picture of one large shape that takes the place of everything for a very short time."""

    time: float
    duration: float
    color: str
    rgb: RGB
    shape: str
    size: float
    seed: int


@dataclass(frozen=True)
class Flash:
    """A digit or letter shown on the screen (not in the world) for a very short time."""

    glyph: str
    time: float
    duration: float
    position: tuple[float, float]
    size: float
    color: RGB
    backing: RGB
    plate: bool


@dataclass(frozen=True)
class Fade:
    """``kind`` is one of FADES; ``duration`` in seconds (0 for none)."""

    kind: str
    duration: float


NO_FADE = Fade("none", 0.0)


@dataclass(frozen=True)
class Script:
    """Everything that happens in one clip."""

    seed: int
    duration: float
    camera: Camera
    shots: tuple[Shot, ...]
    objects: tuple[Object, ...]
    flash: Flash | None
    fade: Fade
    needle: Needle | None
    distractors: tuple[Distractor, ...]

    @property
    def cuts(self) -> tuple[float, ...]:
        """Times of the cuts in seconds."""
        return tuple(shot.start for shot in self.shots[1:])


def stream(seed: int, name: str) -> np.random.Generator:
    """A generator for one named purpose, independent of all the other names."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
