"""What can be known of a script from its frames at given times: the ground for questions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.geometry import State, evaluate
from slowfast_mini.world.language import Reference
from slowfast_mini.world.script import HOP_SECONDS, Object, Script

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entity:
    """An object that at least one frame shows; ``colors`` in the order in which they are seen.

    ``moves_seen`` says that one shot shows it at two or more times, ``jumps`` that the frames show
    it in the air, ``hops_seen`` that they show all its jumps and the rest between them.
    """

    object: Object
    colors: tuple[str, ...]
    moves_seen: bool
    jumps: bool
    hops_seen: bool


@dataclass(frozen=True)
class Facts:
    """``entities`` are ordered by appearance, then from left to right."""

    script: Script
    state: State
    entities: tuple[Entity, ...]
    longest_gap: float

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """All (colour, shape) combinations that are seen at some time, if only for a moment."""
        found = {(c, e.object.shape) for e in self.entities for c in e.colors}
        needle = self.script.needle
        return found | {(needle.color, needle.shape)} if needle else found

    @property
    def colors(self) -> set[str]:
        """All colours of shapes that are seen."""
        return {color for color, _ in self.pairs}

    @property
    def shapes(self) -> set[str]:
        """All shapes that are seen."""
        return {shape for _, shape in self.pairs}

    @property
    def plate(self) -> bool:
        """A letter is shown on a plate, which is a square too, of any light or dark colour."""
        return self.script.flash is not None and self.script.flash.plate

    @property
    def lit_per_shot(self) -> list[int]:
        """How many frames show each shot with enough light."""
        lit = self.state.shot[self.state.gain > 0.3]
        return [int((lit == k).sum()) for k in range(len(self.script.shots))]

    @property
    def last_lit(self) -> float:
        """The time at which a fade out begins, or the end."""
        fade = self.script.fade
        return self.script.duration - (fade.duration if fade.kind == "out" else 0.0) - 1e-6

    @property
    def quiet(self) -> bool:
        """Nothing happens from the first to the last frame."""
        script = self.script
        calm = all(
            o.appear == 0 and o.disappear >= script.duration and o.motion == "still"
            for o in script.objects
        )
        acts = any(o.hops or o.change for o in script.objects)
        shows = script.flash or script.needle or script.distractors or script.cuts
        return calm and script.camera.rests and not (acts or shows or script.fade.duration)

    @property
    def happenings(self) -> dict[str, float]:
        """Times of what happens once and is seen: "text", "picture", "cut", "change"."""
        script, found = self.script, {}
        if script.flash is not None and self.state.flash.any():
            found["text"] = script.flash.time
        if script.needle is not None and self.state.needle.any():
            found["picture"] = script.needle.time
        if len(script.cuts) == 1 and script.needle is None and min(self.lit_per_shot) > 0:
            found["cut"] = script.cuts[0]
        for entity in self.entities:
            if len(entity.colors) > 1 and entity.object.change is not None:
                found["change"] = entity.object.change.time
        return found

    def references(self, entity: Entity) -> dict[str, Reference]:
        """Unambiguous ways to name an entity: by "shape", "color", "motion", "both", "only"."""
        others = [e for e in self.entities if e is not entity]
        obj = entity.object
        found: dict[str, Reference] = {"both": ("both", entity.colors[0], obj.shape)}
        plate = obj.shape == "square" and self.plate
        if all(o.object.shape != obj.shape for o in others) and not plate:
            found["shape"] = ("shape", obj.shape)
        if len(entity.colors) == 1 and all(entity.colors[0] not in o.colors for o in others):
            found["color"] = ("color", entity.colors[0])
        if not others:
            if self.script.needle is None:  # whose shape is another object to most people
                found["only"] = ("only",)
        elif self._moves_alone(entity, others):
            found["motion"] = ("motion", obj.motion)
        return found

    def _moves_alone(self, entity: Entity, others: list[Entity]) -> bool:
        """Whether its own motion, plainly seen from a still camera, tells it from the others."""
        motion = entity.object.motion
        if self.script.camera.motion != "still" or motion == "still" or not entity.moves_seen:
            return False
        if motion in ("up", "down") and any(o.object.hops for o in others):
            return False  # what jumps goes up and down as well
        return all(o.object.motion != motion for o in others)


def gather(script: Script, timestamps: Floats) -> Facts:
    """What the frames at ``timestamps`` (T,) in seconds show."""
    times = np.asarray(timestamps, dtype=np.float64)
    state = evaluate(script, times)
    found: list[tuple[float, float, Entity]] = []
    for index, obj in enumerate(script.objects):
        rows = np.flatnonzero(state.visible[:, index])
        if len(rows) == 0:
            continue
        colors = tuple(COLORS[k] for k in dict.fromkeys(state.color[rows, index].tolist()))
        per_shot = np.bincount(state.shot[rows])
        left = float(state.center[rows[0], index, 0])
        moves = bool(per_shot.max() >= 2)
        entity = Entity(obj, colors, moves, *_hops_seen(obj.hops, times[rows]))
        found.append((obj.appear, left, entity))
    found.sort(key=lambda item: item[:2])
    gap = float(np.diff(times).max()) if len(times) > 1 else script.duration
    return Facts(script, state, tuple(entity for _, _, entity in found), gap)


def _hops_seen(hops: tuple[float, ...], seen: Floats) -> tuple[bool, bool]:
    """Whether times (V,) at which an object is visible show any jump, and all and their rests."""
    jumps = [_any_within(seen, t + 0.15 * HOP_SECONDS, t + 0.85 * HOP_SECONDS) for t in hops]
    rests = [_any_within(seen, a + HOP_SECONDS, b) for a, b in pairwise(hops)]
    return any(jumps), bool(hops) and all(jumps) and all(rests)


def _any_within(times: Floats, low: float, high: float) -> bool:
    return bool(((times >= low) & (times <= high)).any())
