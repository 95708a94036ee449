"""`slowfast data check`: validate records before a training run meets them."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.options import Json
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.train.record import Record

data = typer.Typer(help="Look after training data.", no_args_is_help=True)


@data.command(epilog="Example: slowfast data check records.jsonl --media videos/")
def check(
    source: Annotated[
        str, typer.Argument(help="A .json, .jsonl or .parquet file, a folder, or a data set's id.")
    ],
    media: Annotated[
        Path | None, typer.Option(help="Folder of the videos. Default: that of the file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Its tokens and pictures. Default: the packaged model's.")
    ] = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of each clip.")] = 64,
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Longest conversation in tokens; say --model, whose they are."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Problems to show; --json has all.")] = 20,
    json: Json = False,
) -> None:
    """Read every record and every clip as training would, and list what is wrong.

    Damaged clips of which frames can be read count as usable, and are listed.
    Exit code 0: all records can be used; 1: some cannot.
    """
    from rich.console import Console
    from rich.progress import Progress

    from slowfast_mini import WEIGHTS
    from slowfast_mllm.engine.loading import load_processor, read_config
    from slowfast_mllm.train.conversations import Encoder, PreferenceEncoder
    from slowfast_mllm.train.record import Record, RecordError
    from slowfast_mllm.train.records import read_records

    path = str(WEIGHTS) if model is None else model
    read_config(path)  # says at once what is wrong with a name
    processor = load_processor(path)
    encoder = Encoder(processor, num_frames, max_length or sys.maxsize)
    compare = PreferenceEncoder(encoder)
    records = list(read_records(source, media))

    def problem(record: Record | RecordError) -> str | None:
        if isinstance(record, RecordError):
            return str(record)
        try:
            encoder(record) if record.rejected is None else compare(record)
        except RecordError as error:
            return str(error)
        return None

    problems = []
    console = Console(stderr=True)
    with (
        _damage_heard() as damage,
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
        ThreadPoolExecutor(2) as pool,
    ):
        checked = pool.map(problem, records)
        for found in progress.track(checked, len(records), description="Checking"):
            if found is not None:
                problems.append(found)
    readable = [record for record in records if isinstance(record, Record)]
    kinds = Counter(
        kind for r in readable for kind in {part["type"] for part in r.visual_parts} or {"text"}
    )
    taken = _taken(readable)
    if json:
        facts = {"records": len(records), "usable": len(records) - len(problems), **kinds}
        lists = {"problems": problems, "damaged": sorted(damage)}
        say_json({**facts, "taken": taken, **lists})
    else:
        _print(len(records), problems, kinds, limit)
        say(_described(taken))
        _print_some([f"Warning: {line}" for line in sorted(damage)], limit)
    if problems or not records:
        raise typer.Exit(1)


@contextmanager
def _damage_heard() -> Iterator[set[str]]:
    """What reading logs of clips that are damaged, once each, in place of the log."""
    lines: set[str] = set()
    reading = logging.getLogger("slowfast_mllm.processing")
    handler = logging.Handler()
    handler.emit = lambda record: lines.add(record.getMessage())  # type: ignore[method-assign]
    reading.addHandler(handler)
    reading.propagate = False
    try:
        yield lines
    finally:
        reading.removeHandler(handler)
        reading.propagate = True


def _taken(records: "list[Record]") -> dict[str, Any]:
    """What training will do that not every record asks for, and what means nothing to it."""
    parts = [part for record in records for part in record.visual_parts]
    samplings = [part.get("sampling", {}) for part in parts]
    return {
        "videos_with_bounds": sum("start" in s or "end" in s for s in samplings),
        "videos_with_own_frames": sum("num_frames" in s or "fps" in s for s in samplings),
        "frame_lists": sum(isinstance(part["path"], list) for part in parts),
        "system_prompts": sum(r.messages[0]["role"] == "system" for r in records),
        "turns_without_loss": sum(record.unlearned for record in records),
        "carried": sorted({name for record in records for name in record.carried}),
    }


def _described(taken: dict[str, Any]) -> str:
    counts = [f"{name.replace('_', ' ')}: {n}" for name, n in taken.items() if isinstance(n, int)]
    carried = ", ".join(taken["carried"]) or "nothing"
    return f"Taken: {', '.join(counts)}; carried along without meaning: {carried}"


def _print_some(lines: list[str], limit: int) -> None:
    for line in lines[:limit]:
        say(line)
    if len(lines) > limit:
        say(f"... and {len(lines) - limit} more (--limit, --json)")


def _print(count: int, problems: list[str], kinds: Counter[str], limit: int) -> None:
    _print_some(problems, limit)
    parts = ", ".join(f"{number} with {kind}" for kind, number in sorted(kinds.items()))
    say(f"{count} records ({parts or 'none readable'}), {len(problems)} bad")
