"""`slowfast score`: how surely a video shows something."""

from typing import Annotated

import typer

from slowfast_cli.options import Looking, Watched, looking, working


@looking
def score(
    video: Watched,
    what: Annotated[
        str | None, typer.Argument(help="As after 'Does the video show', e.g. 'a red star'.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="In its place, a question with yes or no for an answer.")
    ] = None,
    *,
    how: Looking,
) -> None:
    """Say how surely a video shows something: the probability of yes."""
    if bool(what) == bool(question):
        raise typer.BadParameter("say what the video should show, or give a --question.")
    assistant = how.load(video)
    from slowfast_mllm.tasks import score_video

    with working("Watching the video"):
        found = score_video(assistant, video, what, question, **how.given)
    how.tell(found, [f"{found.score:.1%}"])
