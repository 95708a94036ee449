"""`slowfast index`: watch videos once and keep what the model remembers of each in a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slowfast_cli.answering import refuse_wrong_bounds, wrong_usage
from slowfast_cli.loading import load_model, refuse_missing, working
from slowfast_cli.many import (
    Ray,
    Shard,
    do_into,
    records_of,
    refuse_alone,
    refuse_bounds_of_many,
    refuse_output,
)
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
)
from slowfast_cli.terminal import say


class _Precision(StrEnum):
    bfloat16 = "bfloat16"
    int8 = "int8"
    exact = "exact"


def index(
    video: Video,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The new file, name.sfmem. Of all videos of a folder or table: new or unfinished, "
            ".jsonl or .parquet, with the memories in a folder beside it.",
        ),
    ],
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
    shard: Shard = None,
    ray: Ray = None,
) -> None:
    """Watch a video once; later `slowfast ask NAME.sfmem` needs neither video nor time."""
    sampling: dict[str, Any] = {"num_frames": num_frames, "fps": fps, "start": start, "end": end}
    sampling |= {"frames_fps": frames_fps, "fit": fit and fit.value, "clip": clip}
    how_loaded: dict[str, Any] = {"yes": yes, "device": device, "dtype": dtype}
    how_loaded["quantize"] = quantize
    if output.suffix in (".jsonl", ".parquet"):
        _index_all(video, output, precision.value, sampling, model, how_loaded, shard, ray)
        return
    refuse_alone(shard, ray)
    refuse_wrong_bounds(video, **sampling)
    refuse_missing(video)
    from slowfast_mllm.engine import SlowFast
    from slowfast_mllm.engine.encoded_video import check_target

    with wrong_usage():
        check_target(output)  # before a model is loaded: that may take minutes
    assistant = load_model(model, cache=False, one_video=True, **how_loaded)
    if not isinstance(assistant, SlowFast):
        raise typer.BadParameter(f"{model}: only Slow-Fast models keep memories in files.")
    with working("Watching the video"):
        encoded = assistant.index(video, output, precision.value, **sampling)
    for warning in encoded.info.warnings:
        say(f"Warning: {warning}", err=True)
    size = output.stat().st_size
    say(f"{output}: {len(encoded.timestamps)} frames, {size / 1e6:.1f} MB")


def _index_all(
    video: str,
    output: Path,
    precision: Any,
    sampling: dict[str, Any],
    model: str | None,
    how_loaded: dict[str, Any],
    shard: str | None,
    ray: str | None,
) -> None:
    refuse_output(output, (".parquet",))
    refuse_bounds_of_many(sampling)
    from slowfast_mllm.bulk.jobs import Memories
    from slowfast_mllm.tasks.export import check_export

    with wrong_usage():
        check_export(output, dense=False)
    records = records_of([video], shard)
    job = Memories(output.with_suffix("").absolute(), precision, sampling)
    do_into(output, job, records, model, how_loaded, ray)
