"""`slowfast bench needle`: one picture among many frames, and whether a model tells what it is."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import wrong_usage
from slowfast_cli.loading import load_model
from slowfast_cli.options import Device, Dtype, Json, Model, Quantize, Yes
from slowfast_cli.plots import new_figure, refuse_wrong_plot
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from slowfast_mllm.evaluate.needle import Trial


def needle(
    frames: Annotated[
        list[int] | None,
        typer.Option(help="Frames of a clip; several may be given. Default: 64 to 1536."),
    ] = None,
    depths: Annotated[
        int, typer.Option(help="Places of the picture, from the first frame to the last.")
    ] = 5,
    trials: Annotated[int, typer.Option(help="Questions for each of both.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it, by frames and depth, into this PNG.")
    ] = None,
    json: Json = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
) -> None:
    """Hide one picture among many frames, and ask a model what it shows.

    Clips are drawn, the same for every model: a dull texture drifts by, and one
    frame shows a large coloured shape. Colour and shape must be told, which
    is right by chance in one of 24. Models that tell what they read (evidence)
    also tell whether it was that frame. What fails ends it: more frames would, too.
    """
    refuse_wrong_plot(plot)
    if depths < 1:
        raise typer.BadParameter(f"--depths={depths}: give one or more.")
    assistant = load_model(model, False, yes, device=device, dtype=dtype, quantize=quantize)
    from slowfast_mllm.evaluate.needle import FRAMES, QUESTION, find_needles

    places = [0.5] if depths == 1 else [i / (depths - 1) for i in range(depths)]
    found = []
    if not json:
        say(QUESTION)
        say("frames  depth  needle           right  read   seconds  memory   answer")
    try:
        with wrong_usage():
            for trial in find_needles(assistant, frames or FRAMES, places, trials):
                found.append(trial)
                if not json:
                    say(_line(trial))
    finally:  # of what was interrupted, as much as there is
        if json and found:
            told = [trial.to_dict() for trial in found]
            say_json({"model": assistant.name, "question": QUESTION, "trials": told})
        answered = [trial for trial in found if trial.error is None]
        if plot is not None and answered:
            _draw(answered, assistant.name, plot)
    if found[-1].error is not None:
        say(f"At {found[-1].num_frames} frames it ended: {found[-1].error}", err=True)
        raise typer.Exit(1)


def _line(trial: "Trial") -> str:
    seconds = "-" if trial.seconds is None else f"{trial.seconds:.2f}"
    return (
        f"{trial.num_frames:6} {trial.depth:6.0%}  {trial.needle:15}  {_word(trial.right):5}  "
        f"{_word(trial.found):5} {seconds:>8}  {trial.peak_memory / 1e9:.2f} GB  "
        f"{' '.join((trial.answer or '-').split())}"
    )


def _word(yes: bool | None) -> str:
    return "-" if yes is None else "yes" if yes else "no"


def _draw(trials: "Sequence[Trial]", model: str, path: Path) -> None:
    """Shares by frames and depth, and what each number of frames took."""
    told = any(trial.found is not None for trial in trials)
    figure = new_figure(13 if told else 9, 3.6)
    axes = figure.subplots(1, 3 if told else 2)
    _shares(axes[0], trials, "the answer is right", lambda trial: trial.right)
    if told:
        _shares(axes[1], trials, "the frame that was read most is it", lambda trial: trial.found)
    _took(axes[-1], trials)
    figure.suptitle(f"One picture among many frames: {model}")
    figure.savefig(path, dpi=120)


def _shares(
    axes: "Axes", trials: "Sequence[Trial]", title: str, holds: "Callable[[Trial], Any]"
) -> None:
    counts = sorted({trial.num_frames for trial in trials})
    depths = sorted({trial.depth for trial in trials})
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(len(depths) - 0.5, -0.5)  # the first frame is above
    for column, count in enumerate(counts):
        for row, depth in enumerate(depths):
            cell = [holds(t) for t in trials if (t.num_frames, t.depth) == (count, depth)]
            if not cell:
                continue
            share = sum(map(bool, cell)) / len(cell)
            color = (0.85 - 0.65 * share, 0.35 + 0.2 * share, 0.2 + 0.5 * share)
            axes.add_patch(_square(column, row, color))
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color="white")
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    axes.set(title=title, xlabel="frames", ylabel="depth (0%: the first frame)")


def _square(column: int, row: int, color: tuple[float, float, float]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=color)


def _took(axes: "Axes", trials: "Sequence[Trial]") -> None:
    from matplotlib.ticker import LogLocator

    counts = sorted({trial.num_frames for trial in trials})
    of = {count: [t for t in trials if t.num_frames == count] for count in counts}
    seconds = [statistics.median(t.seconds or 0 for t in of[count]) for count in counts]
    memory = [max(t.peak_memory for t in of[count]) / 1e9 for count in counts]
    axes.plot(counts, seconds, marker="o", label="seconds a question")
    axes.plot(counts, memory, marker="s", label="GB, the whole process")
    axes.set(title="what it took", xlabel="frames", xscale="log", yscale="log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend()
