"""What verbs with --plot share: a figure to draw on, where matplotlib is installed."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refuse_wrong_plot(path: Path | None) -> None:
    """Fail before anything slow runs, where a picture could not be drawn into that file.

    Raises:
        BadParameter: its folder is not there, or its name ends in no kind of picture.
        ValueError: matplotlib is missing.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path}: no such folder, {path.parent}.")
    if path.suffix.lower() not in (".png", ".svg", ".pdf", ".jpg"):
        raise typer.BadParameter(f"{path}: give a name that ends in .png, .svg, .pdf or .jpg.")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "--plot needs matplotlib; install it with `pip install 'slowfast-mllm[plot]'`."
        )


def new_figure(width: float, height: float) -> "Figure":
    """An empty one, in inches; to be saved by its `savefig`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
