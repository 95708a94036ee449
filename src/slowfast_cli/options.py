"""Options of the verbs, each defined once."""

from enum import StrEnum
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

# Panels of the help. What the library checks itself has no range here: the help column is narrow.
LOOK, REPLY, PLACE = "What to look at", "How to answer", "Where to run"
READ = "What it read"

Video = Annotated[str, typer.Argument(help="A video, an image, a folder or zip of frames.")]
Watched = Annotated[
    str, typer.Argument(help="A video, an image, a folder or zip of frames, or a memory (.sfmem).")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Checkpoint or adapter: a folder, a hub id or a name that `slowfast models` lists. "
        "Default: the small packaged model.",
        rich_help_panel=PLACE,
    ),
]


def _num_frames(given: str) -> int | str:
    if given == "auto":
        return given
    try:
        return int(given)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is neither a number nor auto.") from error


NumFrames = Annotated[
    Any,
    typer.Option(
        parser=_num_frames,
        metavar="<n|auto>",
        help="Frames to look at, evenly spread; auto: as length, motion and memory suggest.",
        rich_help_panel=LOOK,
    ),
]


def _schema(given: str) -> dict[str, Any]:
    """A JSON Schema: as JSON, or in a file that is named."""
    text = given
    try:
        if not given.lstrip().startswith("{"):
            text = Path(given).read_text(encoding="utf-8-sig")
        schema = loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{given}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{given}: no JSON ({error}).") from error
    if not isinstance(schema, dict):
        raise typer.BadParameter(f"{given}: no JSON Schema, which is an object.")
    return schema


Schema = Annotated[
    Any,
    typer.Option(
        parser=_schema,
        metavar="<file|json>",
        help="Answer with JSON that fits this JSON Schema.",
        rich_help_panel=REPLY,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        help="Frames a second to look at instead, at most 512 in all.", rich_help_panel=LOOK
    ),
]
Start = Annotated[float | None, typer.Option(help="Begin here, in seconds.", rich_help_panel=LOOK)]
End = Annotated[float | None, typer.Option(help="Stop here, in seconds.", rich_help_panel=LOOK)]
FramesFps = Annotated[
    float | None,
    typer.Option(
        help="Rate of a folder of frames, which has no times of its own.", rich_help_panel=LOOK
    ),
]
Fitting = StrEnum("Fitting", ["crop", "pad", "squash"])
Fit = Annotated[
    Fitting | None,
    typer.Option(
        help="The middle of each picture (crop), all of it between borders (pad) or out of "
        "shape (squash). Default: as the model was trained, mostly crop.",
        show_choices=False,
        rich_help_panel=LOOK,
    ),
]
Clip = Annotated[
    bool,
    typer.Option(
        "--clip",
        help="The clip inside a motion photo instead of its picture.",
        rich_help_panel=LOOK,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, ...; auto: over all that are there; tp: over the processes of "
        "torchrun. Default: what is there.",
        rich_help_panel=PLACE,
    ),
]
Precision = StrEnum("Precision", ["float32", "bfloat16", "float16"])
Dtype = Annotated[
    Precision | None,
    typer.Option(
        help="Of weights: float32, bfloat16 or float16. Default: what suits.",
        show_choices=False,
        rich_help_panel=PLACE,
    ),
]
Quantization = StrEnum("Quantization", ["int8", "int4", "nf4"])
Quantize = Annotated[
    Quantization | None,
    typer.Option(
        help="Weights of the language model in int8, int4 (CPUs: faster) or nf4. Default: none.",
        show_choices=False,
        rich_help_panel=PLACE,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile tower and decoding: a slow first answer; measure whether others gain.",
        rich_help_panel=PLACE,
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Download a model without asking.", rich_help_panel=PLACE),
]
LookTwice = Annotated[
    bool,
    typer.Option(
        "--look-twice",
        help="Look again, more densely, at what may have been missed or was read most.",
        rich_help_panel=LOOK,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Server = Annotated[
    str | None,
    typer.Option(
        envvar="SLOWFAST_SERVER",
        show_envvar=False,
        help="Ask the `slowfast serve` at this URL. Default: SLOWFAST_SERVER, if it is set.",
        rich_help_panel=PLACE,
    ),
]

Cache = Annotated[
    bool,
    typer.Option(
        help="Keep what was seen of a video on disk for its next question.",
        rich_help_panel=PLACE,
    ),
]
