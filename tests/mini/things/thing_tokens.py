"""Tokens of tracks made by hand."""

from collections.abc import Callable, Iterable

import numpy as np

from slowfast_mini.things import CLASSES

NAMES = list(CLASSES)
Box = tuple[float, float, float, float]


def track(
    name: str,
    frames: Iterable[int],
    box: Box | Callable[[int], Box] = (0.5, 0.5, 0.2, 0.2),
    rgb: tuple[float, float, float] = (0.4, 0.4, 0.5),
    score: float = 0.8,
) -> dict[int, np.ndarray]:
    """Frames and tokens (91,) of one track."""
    found = {}
    for frame in frames:
        token = np.zeros(91, np.float32)
        token[NAMES.index(name)] = score
        token[80:84] = box(frame) if callable(box) else box
        token[84:86], token[86:89] = (score, 1), rgb
        found[frame] = token
    return found


def tokens(num_frames: int, *tracks: dict[int, np.ndarray], slots: int = 10) -> np.ndarray:
    """(num_frames, slots, 91)."""
    objects = np.zeros((num_frames, slots, 91), np.float32)
    for slot, frames in enumerate(tracks):
        for frame, token in frames.items():
            objects[frame, slot] = token
    return objects
