"""`slowfast ground`: when a video shows something."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.answering import Finding, finding
from slowfast_cli.options import Video
from slowfast_cli.plots import new_figure, refuse_wrong_plot

if TYPE_CHECKING:
    from slowfast_mllm.tasks.ground import Grounding


@finding
def ground(
    video: Video,
    words: Annotated[str, typer.Argument(help="What to look for, e.g. 'a red star'.")],
    threshold: Annotated[
        float, typer.Option(help="How sure the model must be, between 0 and 1.")
    ] = 0.5,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw how sure it is over time, into this PNG.")
    ] = None,
    *,
    how: Finding,
) -> None:
    """Find when a video shows something: spans in seconds, or "not found"."""
    if not words.strip():
        raise typer.BadParameter("say in words what to look for.")
    if not 0 < threshold < 1:
        raise typer.BadParameter(f"--threshold={threshold}: give a number between 0 and 1.")
    refuse_wrong_plot(plot)
    found = how.find("ground", video, words=words, threshold=threshold)
    if plot is not None:
        _draw(found, plot)
    how.tell(found, _lines(found))


def _lines(found: "Grounding") -> list[str]:
    if found.found:
        return [f"{s.start:.2f} to {s.end:.2f} s  {s.score:.1%}" for s in found.spans]
    best = max(found.curve, key=lambda window: window.score)
    return [f"not found (at most {best.score:.1%}, {best.start:.2f} to {best.end:.2f} s)"]


def _draw(found: "Grounding", path: Path) -> None:
    figure = new_figure(9, 3)
    axes = figure.subplots()
    for span in found.spans:
        axes.axvspan(span.start, span.end, alpha=0.2)
    for window in found.curve:
        axes.hlines(window.score, window.start, window.end, linewidth=2)
    axes.axhline(found.settings["threshold"], linestyle=":", color="grey")
    axes.set(title=found.question, xlabel="seconds", ylabel="P(yes)", ylim=(-0.03, 1.03))
    figure.savefig(path, dpi=120)
