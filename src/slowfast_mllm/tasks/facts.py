"""What pixels tell for certain: cuts, camera movement, fades, freezes, black, brightness, sound.

Measured in one pass over every frame, none of which is kept; no model is asked.
"""

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.tasks import cuts as cutting
from slowfast_mllm.tasks.camera import Camera, CameraMove
from slowfast_mllm.tasks.cuts import Boundary, Shot, Transitions, shots_between
from slowfast_mllm.tasks.light import Light, Span
from slowfast_mllm.tasks.measuring import Measure, walk
from slowfast_mllm.tasks.results import Clip, Part, Result, Seconds, versions
from slowfast_mllm.video import VideoError, hear_video


class Stretch(Part):
    """A part of the video."""

    start: Seconds
    """Where it begins."""
    end: Seconds
    """Where it ends."""


class Fade(Stretch):
    """Picture that comes out of black or goes into it by and by."""

    kind: Literal["from black", "to black"]
    """Which of the two."""


class FilmedShot(Shot):
    """A shot, and how it was filmed."""

    camera: list[CameraMove] | None
    """How the camera moved; empty: it stood still; null: the picture does not tell."""
    brightness: float
    """Mean luma, from 0 (black) to 1 (white)."""


class Facts(Result):
    """What was measured in a video."""

    cuts: list[Boundary] | None
    """Changes of shots; null: not looked for, as the extra `cuts` is not installed."""
    shots: list[FilmedShot]
    """What lies between cuts; one, where they were not looked for."""
    fades: list[Fade]
    """From black and to black."""
    black: list[Stretch]
    """Where the picture is black."""
    freezes: list[Stretch]
    """Where a picture that is not black stands for a second or longer."""
    brightness: float
    """Mean luma, from 0 (black) to 1 (white)."""
    sound: list[Stretch] | None
    """Where something is to be heard; empty: the sound track is silent; null: there is none."""


def measure_facts(video: Any, frames_fps: float | None = None, clip: bool = False) -> Facts:
    """Measure what a video's pixels tell for certain.

    Args:
        video, frames_fps, clip: as for `read_video`.

    Raises:
        VideoError: the video cannot be read, or is a single picture.
    """
    network, warnings = _network()
    started = time.perf_counter()
    seen: list[_Measures] = []

    def begin(fps: float) -> list[Measure]:
        seen.append(_Measures(fps, network))
        return seen[-1].all

    if hasattr(video, "read"):  # it is read twice, for pictures and for sound
        video = video.read()
    times, info = walk(video, begin, frames_fps, clip)
    sound = _heard(video, float(times[0]), clip, warnings) if info.has_audio else None
    measures, light, end = seen[-1], seen[-1].light, info.duration
    cuts = measures.cuts(times, end)

    def stretches(spans: list[Span]) -> list[Stretch]:
        return [Stretch(start=since, end=until) for since, until in _seconds(spans, times, end)]

    fades = light.fades(times)
    return Facts(
        model=None,
        software=versions([] if network is None else [cutting.PACKAGE]),
        video=Clip.of(info),
        frames=None,
        settings={"frames_fps": frames_fps, "clip": clip},
        timing={"measure": time.perf_counter() - started},
        warnings=[*info.warnings, *warnings],
        cuts=cuts,
        shots=measures.shots(cuts or [], times, end),
        fades=[
            Fade(start=since, end=until, kind="to black" if fade.to_black else "from black")
            for fade, (since, until) in zip(
                fades, _seconds([fade.span for fade in fades], times, end), strict=True
            )
        ],
        black=stretches(light.black(times, end)),
        freezes=stretches(light.freezes(times, end)),
        brightness=_brightness(light, 0, len(times)),
        sound=sound,
    )


def _heard(video: Any, first: float, clip: bool, warnings: list[str]) -> list[Stretch] | None:
    """Where there is sound; None, and a warning, where it cannot be decoded."""
    try:
        parts = hear_video(video, first, clip=clip) or []
    except VideoError as error:
        warnings.append(f"sound: {error}")
        return None
    return [Stretch(start=since, end=until) for since, until in parts]


def _network() -> tuple[Any, list[str]]:
    """What finds cuts, or None and a line that says how to get it."""
    try:
        return cutting.load_network(), []
    except ValueError as error:
        return None, [f"taken as one shot: {error}"]


class _Measures:
    """All that is measured in one pass."""

    def __init__(self, fps: float, network: Any) -> None:
        self.light, self._camera = Light(), Camera(fps)
        self._transitions = None if network is None else Transitions(network)
        self.all: list[Measure] = [self.light, self._camera]
        if self._transitions is not None:
            self.all.append(self._transitions)

    def cuts(self, times: NDArray[np.float64], end: float) -> list[Boundary] | None:
        if self._transitions is None:
            return None
        return self._transitions.boundaries(times, self.light.dark(times, end))

    def shots(
        self, cuts: list[Boundary], times: NDArray[np.float64], end: float
    ) -> list[FilmedShot]:
        begins = [float(times[0]), *(cut.end for cut in cuts)]
        ends = [*(cut.start for cut in cuts), end]
        shots = []
        for number, (start, until) in enumerate(shots_between(cuts, times, end)):
            first, after = np.searchsorted(times, np.array([start, until]) - 1e-4).tolist()
            shots.append(
                FilmedShot(
                    start=start,
                    end=until,
                    camera=self._camera.moves(times, begins[number], ends[number]),
                    brightness=_brightness(self.light, first, after),
                )
            )
        return shots


def _brightness(light: Light, first: int, after: int) -> float:
    return round(float(np.mean(light.luma[first : max(after, first + 1)])) / 255, 3)


def _seconds(
    spans: list[Span], times: NDArray[np.float64], end: float
) -> list[tuple[float, float]]:
    return [
        (float(times[first]), float(times[after]) if after < len(times) else end)
        for first, after in spans
    ]
