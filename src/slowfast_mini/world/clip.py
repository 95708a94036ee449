"""A whole training example in one call: script, frames, times, dense labels and questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowfast_mini.world.labels import DenseLabels, dense_labels
from slowfast_mini.world.questions import questions
from slowfast_mini.world.render import render
from slowfast_mini.world.sampling import sample_script
from slowfast_mini.world.scoring import QA
from slowfast_mini.world.script import Script


@dataclass(frozen=True)
class Clip:
    """``frames`` uint8 (T, S, S, 3) RGB; ``timestamps`` float64 (T,) in seconds."""

    script: Script
    frames: npt.NDArray[np.uint8]
    timestamps: npt.NDArray[np.float64]
    labels: DenseLabels
    questions: list[QA]


def frame_times(duration: float, num_frames: int) -> npt.NDArray[np.float64]:
    """Uniform times (num_frames,) in seconds from 0, ``duration / num_frames`` apart."""
    return np.arange(num_frames, dtype=np.float64) * (duration / num_frames)


def sample_clip(
    seed: int,
    num_frames: int = 32,
    size: int = 96,
    language: str = "en",
    multiple_choice: float = 0.0,
    held_out: bool = False,
) -> Clip:
    """The clip with this number, with labels for a 6 x 6 grid; see ``questions`` for the rest."""
    script = sample_script(seed)
    times = frame_times(script.duration, num_frames)
    return Clip(
        script=script,
        frames=render(script, times, size),
        timestamps=times,
        labels=dense_labels(script, times),
        questions=questions(script, seed, times, language, multiple_choice, held_out),
    )
