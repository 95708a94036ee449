"""`slowfast events`: what happens in a video, one thing after the other."""

from typing import Annotated

import typer

from slowfast_cli.answering import Finding, finding
from slowfast_cli.options import Video


@finding
def events(
    video: Video,
    window: Annotated[
        float, typer.Option(help="Seconds that are described together, at least 0.1.")
    ] = 1.0,
    prompt: Annotated[
        str | None, typer.Option(help="What is asked of each window. Default: what happens.")
    ] = None,
    *,
    how: Finding,
) -> None:
    """Tell what happens in a video, one thing after the other, with times."""
    found = how.find("events", video, window=window, prompt=prompt or None)
    how.tell(found, [f"{e.start:.2f} to {e.end:.2f} s  {e.text}" for e in found.events])
