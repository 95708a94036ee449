"""What the verbs share that do something with very many videos: into a file, here or on a cluster.

The same command goes on where it was.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import refuse_wrong_bounds
from slowfast_cli.loading import load_model
from slowfast_cli.options import PLACE
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.bulk.jobs import Job
    from slowfast_mllm.tasks.many import Progress
    from slowfast_mllm.tasks.records import Record

_EVERY = 10.0  # seconds between two lines of progress where there is no terminal

Shard = Annotated[
    str | None,
    typer.Option(help="A share of the videos, e.g. 3/16: the third of sixteen."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="<address|local>",
        help="Into a file: with workers of the Ray cluster at host:port (auto: this machine's), or "
        "of this machine (local).",
        rich_help_panel=PLACE,
    ),
]


def records_of(videos: list[str], shard: str | None) -> "list[Record]":
    """The videos, or a share of them."""
    from slowfast_mllm.tasks.records import read_records, shard_of

    if shard is None:
        return read_records(videos)
    parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    number, count = map(int, parts.groups()) if parts else (0, 0)
    if not 1 <= number <= count:
        raise typer.BadParameter(f"--shard {shard}: give which of how many, for example 3/16.")
    return shard_of(read_records(videos), number, count)


def refuse_output(output: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Before a model is loaded: that may take minutes."""
    if output.suffix not in (".jsonl", *suffixes):
        raise typer.BadParameter(f"{output}: its name ends in {', '.join(('.jsonl', *suffixes))}.")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"{output}: no such folder, {output.parent}.")


def refuse_alone(shard: str | None, ray: str | None) -> None:
    """Options of many videos, where one is looked at."""
    for name, given in (("--shard", shard), ("--ray", ray)):
        if given is not None:
            raise typer.BadParameter(f"{name}: of many videos; give --output, name.jsonl, too.")


def refuse_bounds_of_many(sampling: dict[str, Any]) -> None:
    """Sampling of many videos."""
    refuse_wrong_bounds("", **sampling)
    if sampling["start"] is not None or sampling["end"] is not None:
        raise typer.BadParameter(
            "--start, --end: of one video; for many, give a table with columns of these names."
        )


def do_into(
    output: Path,
    job: "Job",
    records: "list[Record]",
    model: str | None,
    how_loaded: dict[str, Any],
    ray: str | None,
    json: bool = False,
) -> None:
    """Do a job, write it in the format that the output's name says, and say what was done."""
    from slowfast_mllm.tasks.export import export

    journal = output.with_suffix(".jsonl")
    progress = _do_all(job, records, journal, model, how_loaded, ray)
    if output != journal:
        export(journal, output)
    _tell_all(job, records, progress, output, json)


def _do_all(
    job: "Job",
    records: "list[Record]",
    journal: Path,
    model: str | None,
    how_loaded: dict[str, Any],
    ray: str | None,
) -> "Progress":
    """Do a job with a model that is loaded here or by a cluster's workers, and show how it goes."""
    if ray is None:
        from slowfast_mllm.bulk.jobs import do_here

        assistant = load_model(model, cache=False, **how_loaded)
        with _shown(job.made) as show:
            return do_here(job, assistant, records, journal, show)
    from slowfast_cli.loading import agree_to_download
    from slowfast_mllm.bulk.ray import do_on_cluster

    if model is not None and not how_loaded["yes"]:
        agree_to_download(model)
    # As plain text: what is of the command line alone need not be where workers are.
    how = {k: str(v) if isinstance(v, str) else v for k, v in how_loaded.items() if k != "yes"}
    with _shown(job.made) as show:
        return do_on_cluster(ray, job, records, journal, model, how, show)


def _tell_all(
    job: "Job", records: "list[Record]", progress: "Progress", output: Path, json: bool
) -> None:
    """Say what was done; what failed ends the program as a failure."""
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
        say(f"{output}: {progress.done} {job.made}{there}; {progress.failed} failed")
    if errors is not None:
        say(f"{progress.failed} {job.made} failed; {errors} says why.", err=True)
        raise typer.Exit(1)


@contextmanager
def _shown(made: str) -> Iterator[Callable[["Progress"], None]]:
    """Progress on stderr: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(
            *Bar.get_default_columns(), "{task.fields[told]}", console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(made.capitalize(), total=None, told="")
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
    if progress.seconds_left == float("inf"):
        return "unknown"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
