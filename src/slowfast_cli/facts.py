"""`slowfast facts`: what pixels tell for certain, measured."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slowfast_cli.answering import measured, tell_result
from slowfast_cli.cuts import told_cuts
from slowfast_cli.options import Clip, FramesFps, Json, Server, Video

if TYPE_CHECKING:
    from slowfast_mllm.tasks.camera import CameraMove
    from slowfast_mllm.tasks.facts import Facts, FilmedShot


def facts(
    video: Video,
    json: Json = False,
    frames_fps: FramesFps = None,
    clip: Clip = False,
    server: Server = None,
) -> None:
    """Measure cuts, camera movement, fades, freezes, black and brightness. No model is asked."""
    result = measured("facts", video, server, frames_fps, clip)
    tell_result(result, _lines(result), json)


def _lines(facts: "Facts") -> Iterator[str]:
    yield f"{facts.video.duration:.2f} s"
    if facts.cuts is not None:
        yield from told_cuts(facts.cuts)
    for number, shot in enumerate(facts.shots, 1):
        yield f"shot {number}, {shot.start:.2f} to {shot.end:.2f} s: {_filmed(shot)}"
    for fade in facts.fades:
        yield f"fade {fade.kind}, {fade.start:.2f} to {fade.end:.2f} s"
    stretches_of = (("black", facts.black), ("frozen", facts.freezes), ("sound", facts.sound or []))
    for name, stretches in stretches_of:
        for stretch in stretches:
            yield f"{name}, {stretch.start:.2f} to {stretch.end:.2f} s"
    if not facts.sound:
        yield "no sound track" if facts.sound is None else "the sound track is silent"


def _filmed(shot: "FilmedShot") -> str:
    if shot.camera is None:
        camera = "the picture does not tell how the camera moved"
    else:
        camera = "; ".join(_moved(move, shot) for move in shot.camera) or "the camera stands still"
    return f"{camera}; brightness {shot.brightness:.2f}"


def _moved(move: "CameraMove", shot: "FilmedShot") -> str:
    words = move.kind if move.direction is None else f"{move.kind} {move.direction}"
    if move.amount is not None:
        units = {"zoom": "x", "roll": " degrees"}
        words += f" by {move.amount:g}{units.get(move.kind, ' of the width')}"
    whole = (move.start, move.end) == (shot.start, shot.end)
    return words if whole else f"{words} ({move.start:.2f} to {move.end:.2f} s)"
