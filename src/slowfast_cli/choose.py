"""`slowfast choose`: one of several answers to a question about a video."""

from typing import Annotated

import typer

from slowfast_cli.answering import Finding, finding
from slowfast_cli.options import Watched


@finding
def choose(
    video: Watched,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    options: Annotated[list[str], typer.Argument(help="Two or more answers to choose from.")],
    how: Finding,
) -> None:
    """Choose the answer that fits a video, in whichever order they are given."""
    if len(options) < 2:
        raise typer.BadParameter("give two or more answers to choose from.")
    choice = how.find("choose", video, question=question, options=options)
    surest_first = sorted(choice.options, key=lambda o: (-o.probability, o.text))
    how.tell(choice, (f"{option.probability:6.1%}  {option.text}" for option in surest_first))
