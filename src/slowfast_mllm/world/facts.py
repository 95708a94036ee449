"""What can be known of a script from its frames at given times: the ground for questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowfast_mllm.world.colors import COLORS
from slowfast_mllm.world.geometry import State, evaluate
from slowfast_mllm.world.script import Object, Script

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entity:
    """An object that at least one frame shows; ``colors`` in the order in which they are seen.

    ``moves_seen`` says that one shot shows it at two or more times.
    """

    object: Object
    colors: tuple[str, ...]
    moves_seen: bool

    @property
    def name(self) -> str:
        """First colour and shape, for example "red circle"; unique in a clip."""
        return f"{self.colors[0]} {self.object.shape}"


@dataclass(frozen=True)
class Facts:
    """``entities`` are ordered by appearance, then from left to right."""

    script: Script
    state: State
    entities: tuple[Entity, ...]
    longest_gap: float

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """All (colour, shape) combinations that are seen at some time."""
        return {(c, e.object.shape) for e in self.entities for c in e.colors}

    @property
    def colors(self) -> set[str]:
        """All object colours that are seen."""
        return {color for color, _ in self.pairs}

    @property
    def shapes(self) -> set[str]:
        """All shapes that are seen."""
        return {shape for _, shape in self.pairs}

    @property
    def lit_per_shot(self) -> list[int]:
        """How many frames show each shot with enough light."""
        lit = self.state.shot[self.state.gain > 0.3]
        return [int((lit == k).sum()) for k in range(len(self.script.shots))]

    def references(self, entity: Entity) -> dict[str, str]:
        """Unambiguous ways to name an entity: by "shape", "color", "motion", "both", "only"."""
        others = [e for e in self.entities if e is not entity]
        obj = entity.object
        found = {"both": f"the {entity.name}"}
        if all(o.object.shape != obj.shape for o in others):
            found["shape"] = f"the {obj.shape}"
        if len(entity.colors) == 1 and all(entity.colors[0] not in o.colors for o in others):
            found["color"] = f"the {entity.colors[0]} object"
        if not others:
            found["only"] = "the object"
        elif self._moves_alone(entity, others):
            way = {"left": "to the left", "right": "to the right"}.get(obj.motion, obj.motion)
            found["motion"] = f"the object that moves {way}"
        return found

    def _moves_alone(self, entity: Entity, others: list[Entity]) -> bool:
        """Whether its own motion, plainly seen from a still camera, tells it from the others."""
        motion = entity.object.motion
        if self.script.camera.motion != "still" or motion == "still" or not entity.moves_seen:
            return False
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
        found.append((obj.appear, left, Entity(obj, colors, bool(per_shot.max() >= 2))))
    found.sort(key=lambda item: item[:2])
    gap = float(np.diff(times).max()) if len(times) > 1 else script.duration
    return Facts(script, state, tuple(entity for _, _, entity in found), gap)
