"""`slowfast compare`: what is different between two videos."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.options import Looking, Watched, looking, working

if TYPE_CHECKING:
    from slowfast_mllm.tasks.compare import Comparison


@looking
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
    measure: Annotated[
        bool, typer.Option(help="Look at every frame for cuts, camera movement and light, too.")
    ] = True,
    *,
    how: Looking,
) -> None:
    """Put two videos side by side: what is measured in both, and what the model says."""
    if question is not None and not question.strip():
        raise typer.BadParameter("the question is empty.")
    assistant = how.load(first, second)
    from slowfast_mllm.tasks import compare_videos

    with working("Watching both videos"):
        found = compare_videos(assistant, first, second, question, measure, **how.given)
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
