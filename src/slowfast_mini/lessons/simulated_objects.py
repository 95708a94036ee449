"""Clips of objects that nobody filmed: tracks with the misses, confusions and flicker of the
detector, so that words can be taught on far more than what can be rendered.

Scores and shapes are drawn from what the detector found in real photographs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slowfast_mllm.model.object_tracks import Detections, features_of, follow

# People film each other: so many of a hundred objects; of all others each is as likely.
_PEOPLE, _PERSON = 0.25, 0
_COLORS = np.array(
    [[0.9, 0.9, 0.9], [0.08, 0.08, 0.09], [0.5, 0.5, 0.5], [0.75, 0.12, 0.12], [0.15, 0.3, 0.7],
     [0.2, 0.5, 0.2], [0.85, 0.75, 0.15], [0.85, 0.45, 0.1], [0.45, 0.3, 0.18], [0.8, 0.45, 0.6],
     [0.45, 0.2, 0.55]]
)  # fmt: skip


@dataclass(frozen=True)
class Bank:
    """Detections in photographs: `scores` (n, classes), `sizes` (n, 2) width and height, `best`
    (n,) the class of each."""

    scores: np.ndarray
    sizes: np.ndarray
    best: np.ndarray

    @classmethod
    def of(cls, detections: list[Detections]) -> "Bank":
        scores = torch.cat([d.scores for d in detections]).float().numpy()
        boxes = torch.cat([d.boxes for d in detections]).float().numpy()
        return cls(scores, boxes[:, 2:] - boxes[:, :2], scores.argmax(1))

    def vector(self, rng: np.random.Generator, kind: int) -> np.ndarray:
        """Scores of a thing of that class; where the bank has few, those of another, renamed."""
        own = np.flatnonzero((self.best == kind) & (self.scores.max(1) > 0.4))
        if len(own) > 8 or (len(own) and rng.random() < 0.5):
            return self.scores[rng.choice(own)].copy()
        vector = self.scores[rng.integers(len(self.scores))].copy()
        other = int(vector.argmax())
        vector[[kind, other]] = vector[[other, kind]]
        return vector


def simulate(rng: np.random.Generator, times: np.ndarray, bank: Bank, num_objects: int) -> Tensor:
    """Tokens (T, num_objects, classes + features) as the object tower would give them."""
    found: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in times]
    classes = bank.scores.shape[1]
    for _ in range(int(rng.choice(4, p=[0.1, 0.4, 0.32, 0.18]))):
        kind = _PERSON if rng.random() < _PEOPLE else int(rng.integers(classes))
        for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.62, 0.22, 0.11, 0.05]))):
            _add_track(rng, times, bank, kind, float(rng.beta(5, 2)) * 0.6 + 0.32, found)
    for _ in range(int(rng.choice(4, p=[0.35, 0.3, 0.2, 0.15]))):  # what is not there
        _add_track(
            rng, times, bank, int(rng.integers(classes)), float(rng.uniform(0.22, 0.46)), found
        )
    detections = [_detections(frame, classes) for frame in found]
    return features_of(follow(detections, num_objects), len(times), num_objects, classes)


def _detections(frame: list[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: int) -> Detections:
    columns = [np.stack(part) for part in zip(*frame, strict=True)] if frame else [
        np.zeros((0, width)) for width in (classes, 4, 3)]  # fmt: skip
    scores, boxes, colors = (torch.from_numpy(c).float() for c in columns)
    return Detections(scores, boxes, colors)


def _add_track(
    rng: np.random.Generator,
    times: np.ndarray,
    bank: Bank,
    kind: int,
    surest: float,
    found: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]],
) -> None:
    """One thing, from when it comes until it goes, as the detector sees it frame by frame."""
    length = float(times[-1])
    come = 0.0 if rng.random() < 0.6 else float(rng.uniform(0.1, 0.8)) * length
    go = length + 1 if rng.random() < 0.6 else come + float(rng.uniform(0.15, 0.8)) * length
    hidden = float(rng.uniform(come, length)) if rng.random() < 0.12 else np.inf
    width, height = bank.sizes[rng.integers(len(bank.sizes))] * rng.uniform(0.7, 1.2)
    center = rng.uniform(0.12, 0.88, size=2)
    speed = 0.0 if rng.random() < 0.45 else float(rng.uniform(0.03, 0.3))
    angle = float(rng.choice([0, 0.5, 1, 1.5], p=[0.4, 0.1, 0.4, 0.1])) * np.pi + rng.normal(
        0, 0.25
    )
    velocity = speed * np.array([np.cos(angle), np.sin(angle)])
    growth = float(rng.normal(0, 0.12)) if rng.random() < 0.25 else 0.0
    color = np.clip(_COLORS[rng.integers(len(_COLORS))] + rng.normal(0, 0.06, 3), 0, 1)
    vector = np.clip(bank.vector(rng, kind), 1e-4, 1 - 1e-4)
    logits = np.log(vector / (1 - vector))
    logits += np.log(surest / (1 - surest)) - logits.max()
    confused = int(rng.integers(len(logits))) if rng.random() < 0.12 else None
    drift = rng.normal(0, 0.25)
    for row, time in enumerate(times):
        drift = 0.8 * drift + rng.normal(0, 0.2)
        if not come <= time < go or hidden <= time < hidden + 1.2 or rng.random() < 0.03:
            continue
        scale = np.exp(growth * (time - come))
        middle = center + velocity * (time - 0.5 * length) + rng.normal(0, 0.006, 2)
        half = np.array([width, height]) * scale * np.exp(rng.normal(0, 0.03, 2)) / 2
        box = np.concatenate([middle - half, middle + half])
        shown = np.clip(box, 0, 1)
        share = np.prod(shown[2:] - shown[:2]) / max(np.prod(box[2:] - box[:2]), 1e-6)
        now = logits + drift + np.log(max(share, 1e-3)) * 0.8 + rng.normal(0, 0.12, len(logits))
        if confused is not None and rng.random() < 0.3:
            now[[kind, confused]] = now[[confused, kind]]
        scores = 1 / (1 + np.exp(-now))
        if share > 0.15 and scores.max() > 0.25:
            found[row].append((scores, shown, np.clip(color + rng.normal(0, 0.03, 3), 0, 1)))
