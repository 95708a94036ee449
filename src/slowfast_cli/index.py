"""`slowfast index`: watch a video once and keep what the model remembers of it in a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slowfast_cli.options import (
    Clip,
    Device,
    Dtype,
    End,
    Fit,
    Fps,
    FramesFps,
    Model,
    NumFrames,
    Quantize,
    Start,
    Video,
    Yes,
    load_model,
    refuse_missing,
    refuse_wrong_bounds,
    working,
    wrong_usage,
)
from slowfast_cli.terminal import say


class _Precision(StrEnum):
    bfloat16 = "bfloat16"
    int8 = "int8"
    exact = "exact"


def index(
    video: Video,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new file, name.sfmem.")],
    precision: Annotated[
        _Precision, typer.Option(help="int8: about half the size; exact: as computed.")
    ] = _Precision.bfloat16,
    num_frames: NumFrames = None,
    fps: Fps = None,
    start: Start = None,
    end: End = None,
    frames_fps: FramesFps = None,
    fit: Fit = None,
    clip: Clip = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
) -> None:
    """Watch a video once; later `slowfast ask NAME.sfmem` needs neither video nor time."""
    sampling: dict[str, Any] = {"num_frames": num_frames, "fps": fps, "start": start, "end": end}
    sampling |= {"frames_fps": frames_fps, "fit": fit, "clip": clip}
    refuse_wrong_bounds(video, **sampling)
    refuse_missing(video)
    from slowfast_mllm.engine import SlowFast
    from slowfast_mllm.engine.encoded_video import check_target

    with wrong_usage():
        check_target(output)  # before a model is loaded: that may take minutes
    assistant = load_model(
        model, cache=False, yes=yes, device=device, dtype=dtype, quantize=quantize
    )
    if not isinstance(assistant, SlowFast):
        raise typer.BadParameter(f"{model}: only Slow-Fast models keep memories in files.")
    with working("Watching the video"):
        encoded = assistant.index(video, output, precision.value, **sampling)
    for warning in encoded.info.warnings:
        say(f"Warning: {warning}", err=True)
    size = output.stat().st_size
    say(f"{output}: {len(encoded.timestamps)} frames, {size / 1e6:.1f} MB")
