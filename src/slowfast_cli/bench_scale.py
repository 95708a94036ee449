"""`slowfast bench scale`: how cost grows with frames, clips, questions and batch, here."""

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.answering import wrong_usage
from slowfast_cli.loading import load_model
from slowfast_cli.options import Device, Dtype, Json, Model, Quantize, Yes
from slowfast_cli.plots import new_figure, refuse_wrong_plot
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.evaluate.scaling import Growth


def scale(
    steps: Annotated[int, typer.Option(help="Sizes of each, every one double the last.")] = 5,
    runs: Annotated[int, typer.Option(help="Of each size; the median counts.")] = 3,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, into this PNG.")] = None,
    json: Json = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
) -> None:
    """How cost grows with frames, clip length, clips, questions and batch on this machine.

    Each is doubled while the others stay. The exponent tells how cost grows: 1 in
    proportion, 0 not at all, below 0 it falls.
    """
    refuse_wrong_plot(plot)
    assistant = load_model(model, False, yes, device=device, dtype=dtype, quantize=quantize)
    from slowfast_mllm.evaluate.scaling import measure_growth

    found = []
    with wrong_usage():
        for growth in measure_growth(assistant, steps, runs):
            found.append(growth)
            if not json:
                say(_line(growth))
    if json:
        say_json({"model": assistant.name, "growth": [growth.to_dict() for growth in found]})
    if plot is not None:
        _draw(found, assistant.name, plot)


def _line(growth: "Growth") -> str:
    points = "  ".join(f"{point.size}: {point.seconds:.3g} s" for point in growth.points)
    return f"{growth.what:12} exponent {growth.exponent:5.2f}   {growth.of}   {points}"


def _draw(found: "Sequence[Growth]", model: str, path: Path) -> None:
    from matplotlib.ticker import LogLocator

    figure = new_figure(3.2 * len(found), 3.6)
    for axes, growth in zip(figure.subplots(1, len(found)), found, strict=True):
        sizes = [point.size for point in growth.points]
        seconds = [point.seconds for point in growth.points]
        for point in growth.points:
            axes.plot([point.size] * len(point.runs), point.runs, ".", color="0.6")
        axes.plot(sizes, seconds, marker="o", label="median")
        # The fitted line goes through the middle of the logarithms.
        x, y = geometric_mean(sizes), geometric_mean(seconds)
        fit = [y * (size / x) ** growth.exponent for size in sizes]
        axes.plot(sizes, fit, "--", label=f"exponent {growth.exponent:.2f}")
        axes.set(title=growth.of, xlabel=growth.what, xscale="log", yscale="log")
        axes.title.set_fontsize(8)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        # A decade at least, so that what is flat looks flat.
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, y / 3.2), max(high, y * 3.2))
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.axes[0].set_ylabel("seconds")
    figure.suptitle(model)
    figure.savefig(path, dpi=120)
