"""How the cost of answers grows: with frames, length of a clip, clips, questions and batch.

Each is doubled several times while the others stay, on clips that are drawn here, and an exponent
is fitted: 1 where cost grows in proportion, 0 where it does not grow.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from slowfast_mllm.engine import Assistant, Request
from slowfast_mllm.evaluate.needle import haystack, needle

_RATE = 8  # frames a second of the drawn clips
_SHORTEST, _FEWEST = 5, 8  # seconds of the shortest, frames that are looked at
_LONGEST = 8  # tokens of an answer
_WORDS = {"max_new_tokens": _LONGEST}


@dataclass(frozen=True)
class Point:
    """What one size took.

    Attributes:
        seconds: the median of `runs`.
        runs: seconds of each.
    """

    size: int
    seconds: float
    runs: tuple[float, ...]


@dataclass(frozen=True)
class Growth:
    """How a cost grows.

    Attributes:
        what: "frames", "clip length", "clips", "questions" or "batch".
        of: what was timed.
        exponent: of a power of the size that fits best.
    """

    what: str
    of: str
    points: tuple[Point, ...]
    exponent: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of the straight line through logarithms that fits best."""
    x, y = (np.log(np.asarray(values, float)) for values in (sizes, seconds))
    return float(np.polyfit(x, y, 1)[0])


def measure_growth(assistant: Assistant, steps: int = 5, runs: int = 3) -> Iterator[Growth]:
    """Time each in turn.

    Args:
        steps: sizes of each, every one double the one before.
        runs: of each size; they go round all sizes, so that what else the machine does falls on
            all of them.

    Raises:
        ValueError: fewer than two steps, or no run.
    """
    if steps < 2 or runs < 1:
        raise ValueError("give two steps or more, and one run or more.")
    doubled = [2**step for step in range(steps)]
    with TemporaryDirectory() as folder:
        lengths = [_SHORTEST * n for n in doubled]
        clips = {length: draw_clip(Path(folder) / f"{length}.mp4", length) for length in lengths}
        short, long = clips[lengths[0]], clips[lengths[-1]]
        copies = [shutil.copy(short, Path(folder) / f"copy{n}.mp4") for n in range(doubled[-1])]
        seen = assistant.encode(short, num_frames=_FEWEST)

        def look(video: Path, count: int) -> None:
            assistant.encode(video, num_frames=count)

        def answer(videos: Sequence[Any], together: int, **options: Any) -> None:
            """A question about each."""
            asked = (
                Request(video, f"What is shown, and what is number {n}?", options=_WORDS | options)
                for n, video in enumerate(videos)
            )
            for outcome in assistant.generate(asked, together):
                if isinstance(outcome, Exception):
                    raise outcome

        axes: list[tuple[str, str, list[int], Callable[[int], None]]] = [
            (
                *("frames", "looking at a clip", [_FEWEST * n for n in doubled]),
                lambda count: look(long, count),
            ),
            (
                *("clip length", f"looking at {_FEWEST} frames", lengths),
                lambda length: look(clips[length], _FEWEST),
            ),
            (
                *("clips", "looking, and an answer about each", doubled),
                lambda count: answer(copies[:count], 8, num_frames=_FEWEST),
            ),
            (
                *("questions", "answers about a clip that was looked at", doubled),
                lambda count: answer([seen] * count, 8),
            ),
            (
                *("batch", f"{2 * doubled[-1]} answers, so many together", doubled),
                lambda together: answer([seen] * (2 * doubled[-1]), together),
            ),
        ]
        for what, of, sizes, work in axes:
            yield _growth(what, of, sizes, work, runs)


def _growth(
    what: str, of: str, sizes: Sequence[int], work: Callable[[int], None], runs: int
) -> Growth:
    work(sizes[0])  # the first time anything is done, it takes longer
    took: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(runs):
        for size in sizes:
            began = time.perf_counter()
            work(size)
            took[size].append(time.perf_counter() - began)
    points = tuple(Point(s, statistics.median(each), tuple(each)) for s, each in took.items())
    exponent = fitted_exponent(sizes, [point.seconds for point in points])
    return Growth(what, of, points, exponent)


def draw_clip(path: Path, seconds: int) -> Path:
    """Write a clip of a texture that drifts by, with a key frame every two seconds."""
    frames = haystack(np.random.default_rng(seconds), seconds * _RATE, 0, needle("red", "star"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 2 * _RATE
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
