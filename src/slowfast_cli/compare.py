"""`slowfast compare`: what is different between two videos."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.answering import Finding, finding
from slowfast_cli.options import Watched

if TYPE_CHECKING:
    from slowfast_mllm.tasks.compare import Comparison


@finding
def compare(
    first: Watched,
    second: Annotated[str, typer.Argument(help="Another of these.")],
    question: Annotated[
        str | None,
        typer.Argument(
            help="What to ask about both. Default: what is different; a model that takes one video "
            "at a time is asked what happens in each."
        ),
    ] = None,
    words_only: Annotated[
        bool,
        typer.Option("--words-only", help="Only ask; measure no cuts, camera movement and light."),
    ] = False,
    *,
    how: Finding,
) -> None:
    """Put two videos side by side: what is measured in both, and what the model says."""
    if question is not None and not question.strip():
        raise typer.BadParameter("the question is empty.")
    found = how.find("compare", first, other=second, question=question, words_only=words_only)
    how.tell(found, _lines(found))


def _lines(found: "Comparison") -> Iterator[str]:
    yield f"A: {found.video.path}"
    yield f"B: {found.other.path}"
    for aspect in found.aspects:
        sides = list(dict.fromkeys([aspect.first, aspect.second]))
        sign = {True: "!=", False: "=" if len(sides) == 1 else "~", None: "?"}[aspect.differs]
        yield f"{sign:>2} {aspect.name}: {' | '.join(sides)}"
    if found.said is None:
        yield from (found.question, str(found.answer))
        return
    yield f"{found.question} (asked about each: this model takes one video at a time)"
    for name, words in zip("AB", found.said, strict=True):
        yield f"{name}: {words}"
    if found.said_of_both:
        yield f"Said of both: {' '.join(found.said_of_both)}"
