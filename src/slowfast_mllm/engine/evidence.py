"""Where an answer comes from: how much each frame, and each cell of the top frames, was read.

What the model's hybrid layers read of the slow tokens becomes numbers for people here; no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_TOP = 5  # frames whose cells are told
# Of what is read on average: added to what a neutral question reads, lest little by next to nothing
# be much.
_FLOOR = 0.25
# A frame stands out at so many times the median, and at so many deviations above it.
_TIMES, _DEVIATIONS = 2.0, 4.0


@dataclass(frozen=True)
class FrameEvidence:
    """One of the frames that were read most.

    Attributes:
        position: among the frames that were looked at.
        index, timestamp: in the video; seconds.
        weight: its share of what was read, as in `Evidence.weights`.
        cells: rows from the top, columns from the left, of the picture as the model sees it (its
            `fit`); they sum to 1, or to 0 where objects alone were read.
    """

    position: int
    index: int
    timestamp: float
    weight: float
    cells: list[list[float]]


@dataclass(frozen=True)
class EvidenceSpan:
    """Neighbouring frames that stand out; seconds, and their share of what was read."""

    start: float
    end: float
    weight: float


@dataclass(frozen=True)
class Evidence:
    """What an answer read of a video, beside what a question about nothing in particular reads.

    Attributes:
        weights: of each frame that was looked at, 1 in all; all 0 where gates let nothing in.
        background: the median weight.
        spans: where weights stand out from it, in order of time; none: nowhere.
        top: the frames with the largest weights, the largest first.
    """

    weights: list[float]
    background: float
    spans: list[EvidenceSpan]
    top: list[FrameEvidence]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def weigh(
    read: Tensor,
    neutral: Tensor,
    grid: tuple[int, int],
    frame_indices: Sequence[int],
    timestamps: Sequence[float],
    duration: float,
) -> Evidence:
    """From the weights of slow tokens to those of frames, cells and spans.

    Args:
        read, neutral: (T, N) of the answer, and of a question that asks for nothing in particular:
            N tokens of each frame, those of its cells first, those of objects behind them.
        grid: rows and columns of the cells.
        duration: of the video, where the last frame ends.
    """
    frames = _beyond(read.sum(1), neutral.sum(1))
    weights = (frames / frames.sum().clamp(min=1e-12)).tolist()
    count = grid[0] * grid[1]
    # Places that every question reads, whatever is there: of what is there, it tells nothing.
    cells = _beyond(read[:, :count], neutral[:, :count].mean(0))
    cells = cells / cells.sum(1, keepdim=True).clamp(min=1e-12)
    order = sorted(range(len(weights)), key=lambda at: -weights[at])[:_TOP]
    background, spans = _spans(weights, timestamps, duration)
    return Evidence(
        weights=_rounded(weights),
        background=_rounded([background])[0],
        spans=spans,
        top=[
            FrameEvidence(
                position=at,
                index=frame_indices[at],
                timestamp=round(timestamps[at], 4),
                weight=_rounded(weights)[at],
                cells=[_rounded(row) for row in cells[at].view(*grid).tolist()],
            )
            for at in order
        ],
    )


def _beyond(read: Tensor, neutral: Tensor) -> Tensor:
    """How many times as much was read as by the neutral question: shares, divided."""
    read, neutral = (part / part.mean().clamp(min=1e-12) for part in (read, neutral))
    return read / (neutral + _FLOOR)


def _spans(
    weights: Sequence[float], timestamps: Sequence[float], duration: float
) -> tuple[float, list[EvidenceSpan]]:
    """The median weight, and runs of frames far above it; a frame lasts until the next."""
    told = np.asarray(weights, np.float64)
    median = float(np.median(told))
    deviation = 1.4826 * float(np.median(np.abs(told - median)))
    least = max(_TIMES * median, median + _DEVIATIONS * deviation)
    ends = [*timestamps[1:], max(duration, timestamps[-1])]
    spans = []
    for stands_out, run in groupby(range(len(weights)), lambda at: weights[at] > least):
        if stands_out:
            frames = list(run)
            span = (round(timestamps[frames[0]], 4), round(ends[frames[-1]], 4))
            weight = math.fsum(weights[at] for at in frames)
            spans.append(EvidenceSpan(*span, _rounded([weight])[0]))
    return median, spans


def _rounded(weights: Sequence[float]) -> list[float]:
    return [round(weight, 6) for weight in weights]
