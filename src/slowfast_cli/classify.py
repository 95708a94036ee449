"""`slowfast classify`: which labels fit a video."""

from typing import Annotated

import typer

from slowfast_cli.options import Looking, Watched, looking, working


@looking
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
    how: Looking,
) -> None:
    """Say how surely each label fits a video: hundreds cost little more than one."""
    from slowfast_mllm.tasks import classify_video, read_labels

    if bool(labels) == bool(file):
        raise typer.BadParameter("give labels, or a file of them with --labels.")
    asked = read_labels(file) if file else list(labels or ())
    assistant = how.load(video)
    with working("Watching the video"):
        found = classify_video(assistant, video, asked, single, **how.given)
    how.tell(found, (f"{label.probability:6.1%}  {label.label}" for label in found.labels[:top]))
