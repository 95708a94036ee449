"""`slowfast classify`: which labels fit a video, or each of very many."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.answering import Finding, finding, wrong_usage
from slowfast_cli.many import (
    Ray,
    Shard,
    do_into,
    records_of,
    refuse_alone,
    refuse_bounds_of_many,
    refuse_output,
)
from slowfast_cli.options import Watched

if TYPE_CHECKING:
    from slowfast_mllm.tasks.labels import Asked


@finding
def classify(
    video: Watched,
    labels: Annotated[
        list[str] | None, typer.Argument(help="In words, as after 'Does the video show'.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--labels", help="A text file with one a line, or camera-motion."),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="One label fits: which? Default: each by itself.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Labels to print; --json has all.")] = 20,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New or unfinished, .jsonl or .parquet: of all videos of a folder, or of a table "
            "(.jsonl, .csv, .parquet).",
        ),
    ] = None,
    shard: Shard = None,
    ray: Ray = None,
    *,
    how: Finding,
) -> None:
    """Say how surely each label fits a video: hundreds cost little more than one."""
    if bool(labels) == bool(file):
        raise typer.BadParameter("give labels, or a file of them with --labels.")
    from slowfast_mllm.tasks.labels import Asked, read_labels

    asked = read_labels(file) if file else [Asked(label) for label in labels or ()]
    if output is not None:
        _classify_all(video, asked, single, output, shard, ray, how)
        return
    refuse_alone(shard, ray)
    found = how.find("classify", video, labels=asked if file else labels, single=single)
    how.tell(found, (f"{label.probability:6.1%}  {label.label}" for label in found.labels[:top]))


def _classify_all(
    video: str,
    labels: "list[Asked]",
    single: bool,
    output: Path,
    shard: str | None,
    ray: str | None,
    how: Finding,
) -> None:
    refuse_output(output, (".parquet",))
    refuse_bounds_of_many(how.sampling)
    from slowfast_mllm.bulk.jobs import Classes
    from slowfast_mllm.tasks.export import check_export

    with wrong_usage():
        check_export(output, dense=False)
        job = Classes(labels, single, how.given)
    do_into(output, job, records_of([video], shard), how.model, how.how_loaded, ray, how.json)
