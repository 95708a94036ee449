"""`slowfast classify`: which labels fit a video."""

from typing import Annotated

import typer

from slowfast_cli.options import Finding, Watched, finding


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
    *,
    how: Finding,
) -> None:
    """Say how surely each label fits a video: hundreds cost little more than one."""
    if bool(labels) == bool(file):
        raise typer.BadParameter("give labels, or a file of them with --labels.")
    from slowfast_mllm.tasks.labels import read_labels

    asked = read_labels(file) if file else labels
    found = how.find("classify", video, labels=asked, single=single)
    how.tell(found, (f"{label.probability:6.1%}  {label.label}" for label in found.labels[:top]))
