"""`slowfast caption`: what videos show, in words; of one on the terminal, of many into a file."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    find_at,
    load_model,
    refuse_local_options,
    refuse_missing,
    refuse_wrong_bounds,
    tell_result,
    wrong_usage,
)
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.tasks.caption import Caption, Captioning, Progress
    from slowfast_mllm.tasks.records import Record

_EVERY = 10.0  # seconds between two lines of progress where there is no terminal


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
    shard: Annotated[
        str | None,
        typer.Option(help="A share of the videos, e.g. 3/16: the third of sixteen."),
    ] = None,
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
    if server and output is None:
        refuse_local_options(how_loaded)
        words = {"prompt": prompt, "max_words": max_words, "dense": dense, "window": window}
        record = _only(_records(videos, shard), server)
        told = find_at(server, "caption", record.video, {"model": model, **words, **sampling})
        tell_result(told, _lines(told), json)
        return
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
    records = _records(videos, shard)
    if output is None:
        record = _only(records)
        _caption_one(load_model(model, cache=False, **how_loaded), record, how, json)
    else:
        _caption_all(load_model(model, cache=False, **how_loaded), records, how, output, json)


def _only(records: "list[Record]", server: str | None = None) -> "Record":
    """What is captioned on stdout."""
    if len(records) != 1:
        raise typer.BadParameter(f"{len(records)} videos: name a file for them with --output.")
    refuse_missing(records[0].video, server)
    return records[0]


def _refuse_output(output: Path | None, dense: bool) -> None:
    """Before a model is loaded: that may take minutes."""
    if output is None:
        return
    from slowfast_mllm.tasks.export import EXPORTS, check_export

    if output.suffix not in (".jsonl", *EXPORTS):
        raise typer.BadParameter(f"{output}: its name ends in .jsonl, {', '.join(EXPORTS)}.")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"{output}: no such folder, {output.parent}.")
    with wrong_usage():
        check_export(output, dense)


def _records(videos: list[str], shard: str | None) -> "list[Record]":
    """The videos, or a share of them."""
    from slowfast_mllm.tasks.records import read_records, shard_of

    if shard is None:
        return read_records(videos)
    parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    number, count = map(int, parts.groups()) if parts else (0, 0)
    if not 1 <= number <= count:
        raise typer.BadParameter(f"--shard {shard}: give which of how many, for example 3/16.")
    return shard_of(read_records(videos), number, count)


def _caption_one(assistant: Any, record: "Record", how: "Captioning", json: bool) -> None:
    from slowfast_mllm.tasks.caption import caption_videos

    ((_, outcome),) = caption_videos(assistant, [record], how)
    if isinstance(outcome, Exception):
        raise outcome
    tell_result(outcome, _lines(outcome), json)


def _lines(caption: "Caption") -> list[str]:
    timed = [f"{s.start:9.2f} {s.end:9.2f}  {s.text}" for s in caption.segments]
    return timed or [caption.caption]


def _caption_all(
    assistant: Any, records: "list[Record]", how: "Captioning", output: Path, json: bool
) -> None:
    from slowfast_mllm.tasks.caption import caption_into
    from slowfast_mllm.tasks.export import export

    journal = output.with_suffix(".jsonl")
    with _shown() as show:
        progress = caption_into(journal, assistant, records, how, show)
    if output != journal:
        export(journal, output)
    before = len(records) - progress.total
    errors = str(output.with_suffix(".errors.jsonl")) if progress.failed else None
    if json:
        facts = {"done": progress.done, "failed": progress.failed, "before": before}
        rates = {
            "seconds": round(progress.seconds, 2),
            "videos_per_second": round(progress.rate, 3),
        }
        say_json({"output": str(output), "errors": errors, **facts, **rates})
    else:
        there = f", {before} were there" if before else ""
        say(f"{output}: {progress.done} captions{there}; {progress.failed} failed")
    if errors is not None:
        say(f"{progress.failed} could not be captioned; {errors} says why.", err=True)
        raise typer.Exit(1)


@contextmanager
def _shown() -> Iterator[Callable[["Progress"], None]]:
    """Progress on stderr: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(
            *Bar.get_default_columns(), "{task.fields[told]}", console=Console(stderr=True)
        ) as bar:
            task = bar.add_task("Captioning", total=None, told="")
            yield lambda p: bar.update(
                task, total=p.total, completed=p.done + p.failed, told=_rate(p)
            )
        return
    last = time.monotonic()

    def show(progress: "Progress") -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            done = progress.done + progress.failed
            say(f"{done} of {progress.total}, {_rate(progress)}, {_left(progress)} left", err=True)

    yield show


def _rate(progress: "Progress") -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{progress.rate:.2f} videos/s{failed}"


def _left(progress: "Progress") -> str:
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
