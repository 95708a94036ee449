"""The options that several verbs share, and what verbs have in common on the terminal."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slowfast_mllm import Answer, SlowFast

Video = Annotated[str, typer.Argument(help="A video, an image, or a folder of frames.")]
Model = Annotated[
    str | None,
    typer.Option(help="Checkpoint: a folder or a hub id. Default: the small packaged model."),
]
NumFrames = Annotated[int | None, typer.Option(min=1, help="Frames to look at, evenly spread.")]
Fps = Annotated[float | None, typer.Option(help="Frames a second to look at, instead.")]
Start = Annotated[float | None, typer.Option(min=0, help="Begin here, in seconds.")]
End = Annotated[float | None, typer.Option(min=0, help="Stop here, in seconds.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Stream = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show words as they come. Default: on a terminal."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: what is there.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: the likeliest answer; above: draw.")]
TopP = Annotated[float, typer.Option(min=0, max=1, help="Draw from this much probability.")]
NumBeams = Annotated[int, typer.Option(min=1, help="Beams of the search.")]
Seed = Annotated[int | None, typer.Option(help="Makes a drawn answer repeatable.")]

_NOTICE = (
    "Note: the packaged model is small and was taught on drawn shapes only; on real footage trust "
    "it no further than camera motion and cuts. For real use: --model "
    "shi-labs/slowfast-video-mllm-qwen2-7b-convnext-576-frame64-s1t4 (CC-BY-NC-4.0). "
    "This note is shown once."
)


def working(what: str) -> AbstractContextManager[Any]:
    """A spinner on stderr while something slow runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)


def load_model(model: str | None, device: str | None, dtype: str | None) -> "SlowFast":
    """Load a checkpoint; the first time the packaged one is used, say what it is."""
    with working("Loading the model"):
        from slowfast_mllm import load

        loaded = load(model, device, dtype)
    if model is None:
        _show_notice_once()
    return loaded


def _show_notice_once() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    marker = cache / "slowfast-mllm" / "notice-shown"
    if marker.exists():
        return
    typer.echo(_NOTICE, err=True)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        pass  # a read-only home: the note comes again


def print_answer(answer: "Answer", as_json: bool, streamed: bool) -> None:
    """The answer on stdout, warnings about the video on stderr."""
    if as_json:
        import json

        typer.echo(json.dumps(answer.to_dict(), ensure_ascii=False, indent=2))
        return
    for warning in answer.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    typer.echo("" if streamed else answer.text)


def wants_stream(stream: bool | None, as_json: bool) -> bool:
    """Words as they come: on a terminal unless told otherwise; never inside JSON."""
    return not as_json and (sys.stdout.isatty() if stream is None else stream)


def write(text: str) -> None:
    """A piece of a streamed answer."""
    sys.stdout.write(text)
    sys.stdout.flush()
