"""`slowfast cuts`: where a video is cut, measured."""

from typing import TYPE_CHECKING

from slowfast_cli.answering import measured, tell_result
from slowfast_cli.options import Clip, FramesFps, Json, Server, Video

if TYPE_CHECKING:
    from slowfast_mllm.tasks.cuts import Boundary


def cuts(
    video: Video,
    json: Json = False,
    frames_fps: FramesFps = None,
    clip: Clip = False,
    server: Server = None,
) -> None:
    """Find where a video is cut. Needs the extra slowfast-mllm[cuts]."""
    result = measured("cuts", video, server, frames_fps, clip)
    tell_result(result, told_cuts(result.cuts), json)


def told_cuts(cuts: "list[Boundary]") -> list[str]:
    """A line about each change of shots, or one that says that there is none."""
    return [_told(cut) for cut in cuts] or ["no cuts"]


def _told(cut: "Boundary") -> str:
    """One line about one change of shots."""
    if cut.kind == "cut":
        return f"{cut.time:.2f} s  cut"
    return f"{cut.time:.2f} s  {cut.kind}, from {cut.start:.2f} to {cut.end:.2f} s"
