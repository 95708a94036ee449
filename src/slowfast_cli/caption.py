"""`slowfast caption`: what videos show, in words; of one on the terminal, of many into a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import (
    find_at,
    refuse_local_options,
    refuse_wrong_bounds,
    tell_result,
    wrong_usage,
)
from slowfast_cli.loading import load_model, refuse_missing
from slowfast_cli.many import (
    Ray,
    Shard,
    do_into,
    records_of,
    refuse_alone,
    refuse_output,
)
from slowfast_cli.options import (
    LOOK,
    REPLY,
    Clip,
    Compile,
    Device,
    Dtype,
    Fit,
    Fps,
    FramesFps,
    Json,
    Model,
    NumFrames,
    Quantize,
    Schema,
    Server,
    Yes,
)

if TYPE_CHECKING:
    from slowfast_mllm.tasks.caption import Caption, Captioning
    from slowfast_mllm.tasks.records import Record


def caption(
    context: typer.Context,
    videos: Annotated[
        list[str],
        typer.Argument(help="Videos, folders of them, or tables: .jsonl, .csv, .parquet."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New or unfinished: .jsonl, or .parquet, .vtt, .srt with a .jsonl beside it. "
            "Without: one video, on stdout.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="Ask this of each video. Default: what happens.", rich_help_panel=REPLY),
    ] = None,
    max_words: Annotated[
        int | None, typer.Option(min=1, help="No caption is longer.", rich_help_panel=REPLY)
    ] = None,
    dense: Annotated[
        bool,
        typer.Option(
            "--dense", help="Segments with times, over the whole length.", rich_help_panel=REPLY
        ),
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="With --dense: seconds that are looked at at a time. Default: 10.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    schema: Schema = None,
    shard: Shard = None,
    ray: Ray = None,
    json: Json = False,
    num_frames: NumFrames = None,
    fps: Fps = None,
    frames_fps: FramesFps = None,
    fit: Fit = None,
    clip: Clip = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
    compile: Compile = False,
    server: Server = None,
) -> None:
    """Say what videos show: very many, and the same command goes on where it was.

    What cannot be read is told in a file beside the output, and left out.
    """
    if window is not None and not dense:
        raise typer.BadParameter("--window: is of --dense captions; give both.")
    sampling: dict[str, Any] = {"num_frames": num_frames, "fps": fps}
    sampling |= {"frames_fps": frames_fps, "fit": fit and fit.value, "clip": clip}
    refuse_wrong_bounds("", **sampling)
    how_loaded: dict[str, Any] = {
        "yes": yes,
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "compile": compile,
    }
    if output is not None and str(context.get_parameter_source("server")).endswith("COMMANDLINE"):
        raise typer.BadParameter("--server: captions one video, on stdout; leave out --output.")
    if server and schema and output is None:
        raise typer.BadParameter(
            '--schema: of captions that are made here; ask no server (--server "").'
        )
    if output is None:
        refuse_alone(None, ray)
    if server and output is None:
        refuse_local_options(how_loaded)
        words = {"prompt": prompt, "max_words": max_words, "dense": dense, "window": window}
        record = _only(records_of(videos, shard), server)
        told = find_at(server, "caption", record.video, {"model": model, **words, **sampling})
        tell_result(told, _lines(told), json)
        return
    if output is not None:
        _refuse_output(output, dense)
    from slowfast_mllm.questions import DESCRIBE
    from slowfast_mllm.tasks.caption import Captioning

    with wrong_usage():
        how = Captioning(
            prompt=DESCRIBE if prompt is None else prompt,
            max_words=max_words,
            schema=schema,
            dense=dense,
            window=window or Captioning.window,
            sampling=sampling,
        )
    records = records_of(videos, shard)
    if output is None:
        record = _only(records)
        _caption_one(load_model(model, cache=False, **how_loaded), record, how, json)
        return
    from slowfast_mllm.bulk.jobs import Captions

    do_into(output, Captions(how), records, model, how_loaded, ray, json)


def _only(records: "list[Record]", server: str | None = None) -> "Record":
    """What is captioned on stdout."""
    if len(records) != 1:
        raise typer.BadParameter(f"{len(records)} videos: name a file for them with --output.")
    refuse_missing(records[0].video, server)
    return records[0]


def _refuse_output(output: Path, dense: bool) -> None:
    """Before a model is loaded: that may take minutes."""
    from slowfast_mllm.tasks.export import EXPORTS, check_export

    refuse_output(output, EXPORTS)
    with wrong_usage():
        check_export(output, dense)


def _caption_one(assistant: Any, record: "Record", how: "Captioning", json: bool) -> None:
    from slowfast_mllm.tasks.caption import caption_videos

    ((_, outcome),) = caption_videos(assistant, [record], how)
    if isinstance(outcome, Exception):
        raise outcome
    tell_result(outcome, _lines(outcome), json)


def _lines(caption: "Caption") -> list[str]:
    timed = [f"{s.start:9.2f} {s.end:9.2f}  {s.text}" for s in caption.segments]
    return timed or [caption.caption]
