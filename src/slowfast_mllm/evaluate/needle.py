"""A needle in a haystack: one picture among many frames, and whether a model tells what is on it.

Frames are drawn here, the same for every model: a dull texture that drifts by, and at a given depth
one frame that shows a large coloured shape instead. Who never looks is right in one of 24.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slowfast_mllm.engine import Answer, Assistant
from slowfast_mllm.evaluate.memory import peak_memory
from slowfast_mllm.evaluate.side_by_side import one_line
from slowfast_mllm.tasks.cut_text import words_of

FRAMES = (64, 128, 256, 512, 1024, 1536)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
QUESTION = "An unrelated picture is shown for an instant: what does it show?"
_EDGE, _RATE = 192, 2.0  # pixels; frames a second
_LONGEST = 64  # tokens of an answer
_COLORS = {
    "red": (200, 20, 20),
    "green": (20, 150, 40),
    "blue": (30, 60, 210),
    "yellow": (235, 215, 30),
    "purple": (130, 30, 160),
    "white": (245, 245, 245),
}
_CORNERS = {"square": 4, "triangle": 3, "star": 10, "circle": 64}
_DULL = (112, 104, 96)


@dataclass(frozen=True)
class Trial:
    """One question about one drawn clip.

    Attributes:
        depth: 0 for a needle in the first frame, 1 in the last.
        needle: its colour and shape.
        peak_memory: bytes that the process took at most so far.
        right: the answer names both.
        found: it is the frame that the answer read most; None: the model does not tell.
        seconds: to look at the clip and to answer.
        error: why there is no answer; None: there is one.
    """

    num_frames: int
    depth: float
    needle: str
    peak_memory: int
    answer: str | None = None
    right: bool = False
    found: bool | None = None
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def find_needles(
    assistant: Assistant,
    counts: Sequence[int] = FRAMES,
    depths: Sequence[float] = DEPTHS,
    trials: int = 1,
) -> Iterator[Trial]:
    """Ask about each number of frames and depth, another needle each time.

    Args:
        counts: numbers of frames, each two or more; the smaller come first.
        depths: between 0 and 1.
        trials: questions for each of both.

    Yields:
        What came of each. What fails ends it: longer clips would fail, too.

    Raises:
        ValueError: a number is out of range, or the model reads no questions.
    """
    if not assistant.capabilities.questions:
        raise ValueError(
            f"{assistant.name}: reads no questions, so it cannot be asked for needles."
        )
    if trials < 1 or min(counts, default=0) < 2 or not all(0 <= depth <= 1 for depth in depths):
        raise ValueError("give two frames or more, depths from 0 to 1, and one trial or more.")
    for count in sorted(set(counts)):
        for depth in depths:
            for number in range(trials):
                trial = _try(assistant, count, depth, number)
                yield trial
                if trial.error is not None:
                    return


def _try(assistant: Assistant, count: int, depth: float, number: int) -> Trial:
    rng = np.random.default_rng(zlib.crc32(f"{count} {depth} {number}".encode()))
    color, shape = str(rng.choice(sorted(_COLORS))), str(rng.choice(sorted(_CORNERS)))
    at = round(depth * (count - 1))
    facts: dict[str, Any] = {"num_frames": count, "depth": depth, "needle": f"{color} {shape}"}
    try:
        answer = _ask(assistant, haystack(rng, count, at, needle(color, shape)))
    except Exception as error:
        return Trial(**facts, peak_memory=peak_memory(), error=one_line(error))
    return Trial(
        **facts,
        answer=answer.text,
        right={color, shape} <= set(words_of(answer.text)),
        found=None if answer.evidence is None else answer.evidence.top[0].position == at,
        seconds=round(sum(s for stage, s in answer.timing.items() if stage != "tokens"), 3),
        peak_memory=peak_memory(),
    )


def _ask(assistant: Assistant, frames: NDArray[np.uint8]) -> Answer:
    options: dict[str, Any] = {"num_frames": len(frames), "frames_fps": _RATE}
    if assistant.capabilities.evidence:
        options["evidence"] = True
    return assistant.ask(frames, QUESTION, max_new_tokens=_LONGEST, **options)


def haystack(
    rng: np.random.Generator, count: int, at: int, picture: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """(count, edge, edge, 3): a dull texture that drifts by, and a picture in the place of one."""
    size = (3 * _EDGE, _EDGE)
    coarse = rng.integers(60, 150, (6, 18, 1)) + rng.integers(-12, 12, (6, 18, 3))
    texture = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    whole = np.asarray(texture)
    frames = np.empty((count, _EDGE, _EDGE, 3), np.uint8)
    for place, left in enumerate(np.linspace(0, 2 * _EDGE, count).astype(int)):
        frames[place] = whole[:, left : left + _EDGE]
    frames[at] = picture
    return frames


def needle(color: str, shape: str) -> NDArray[np.uint8]:
    """(edge, edge, 3): one large shape on a plain ground."""
    picture = Image.new("RGB", (_EDGE, _EDGE), _DULL)
    count = _CORNERS[shape]
    middle, outer = _EDGE / 2, 0.33 * _EDGE
    corners = []
    for corner in range(count):
        angle = 2 * math.pi * (corner + (0.5 if shape == "square" else 0)) / count
        radius = outer * (0.42 if shape == "star" and corner % 2 else 1)
        corners.append((middle + radius * math.sin(angle), middle - radius * math.cos(angle)))
    ImageDraw.Draw(picture).polygon(corners, fill=_COLORS[color])
    return np.asarray(picture)
