"""`slowfast score`: how surely a video shows something."""

from typing import Annotated

import typer

from slowfast_cli.answering import Finding, finding
from slowfast_cli.options import Watched


@finding
def score(
    video: Watched,
    what: Annotated[
        str | None, typer.Argument(help="As after 'Does the video show', e.g. 'a red star'.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="In its place, a question with yes or no for an answer.")
    ] = None,
    *,
    how: Finding,
) -> None:
    """Say how surely a video shows something: the probability of yes."""
    if bool(what) == bool(question):
        raise typer.BadParameter("say what the video should show, or give a --question.")
    found = how.find("score", video, what=what, question=question)
    how.tell(found, [f"{found.score:.1%}"])
