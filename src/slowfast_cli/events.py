"""`slowfast events`: what happens in a video, one thing after the other."""

from typing import Annotated

import typer

from slowfast_cli.options import Looking, Video, looking, working


@looking
def events(
    video: Video,
    window: Annotated[
        float, typer.Option(help="Seconds that are described together, at least 0.1.")
    ] = 1.0,
    prompt: Annotated[
        str | None, typer.Option(help="What is asked of each window. Default: what happens.")
    ] = None,
    *,
    how: Looking,
) -> None:
    """Tell what happens in a video, one thing after the other, with times."""
    assistant = how.load(video)
    from slowfast_mllm.engine import DESCRIBE
    from slowfast_mllm.tasks import find_events

    with working("Watching the video"):
        found = find_events(assistant, video, window, prompt or DESCRIBE, **how.given)
    how.tell(found, [f"{e.start:.2f} to {e.end:.2f} s  {e.text}" for e in found.events])
