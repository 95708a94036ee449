"""`slowfast data check`: validate records before a training run meets them."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.options import Json
from slowfast_cli.terminal import say, say_json

data = typer.Typer(help="Look after training data.", no_args_is_help=True)


@data.command(epilog="Example: slowfast data check records.jsonl --media videos/")
def check(
    source: Annotated[
        str, typer.Argument(help="A .json or .jsonl file, a folder, or the id of a data set.")
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
    from slowfast_mllm.train.records import Record, RecordError, read_records

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
    kinds = Counter(kind for r in readable for kind in {k for k, _ in r.media} or {"text"})
    if json:
        facts = {"records": len(records), "usable": len(records) - len(problems), **kinds}
        lists = {"problems": problems, "damaged": sorted(damage)}
        say_json({**facts, **lists})
    else:
        _print(len(records), problems, kinds, limit)
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


def _print_some(lines: list[str], limit: int) -> None:
    for line in lines[:limit]:
        say(line)
    if len(lines) > limit:
        say(f"... and {len(lines) - limit} more (--limit, --json)")


def _print(count: int, problems: list[str], kinds: Counter[str], limit: int) -> None:
    _print_some(problems, limit)
    parts = ", ".join(f"{number} with {kind}" for kind, number in sorted(kinds.items()))
    say(f"{count} records ({parts or 'none readable'}), {len(problems)} bad")
