"""`slowfast ask`: one question about one video."""

from typing import Annotated

import typer

from slowfast_cli.options import Answering, Watched, answering


@answering
def ask(
    video: Watched,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    how: Answering,
) -> None:
    """Ask a video a question."""
    if not question.strip():
        raise typer.BadParameter("the question is empty.")
    how.answer(how.watch(video), question)
