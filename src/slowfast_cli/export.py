"""`slowfast export`: a checkpoint as ONNX graphs, checked against torch."""

from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.loading import working
from slowfast_cli.terminal import say


def export(
    source: Annotated[
        str, typer.Argument(help="slowfast-mini (the packaged model), a folder, or a hub id.")
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
) -> None:
    """Write a Slow-Fast model as ONNX graphs, which `--model FOLDER` then runs by onnxruntime."""
    with working("Exporting and checking"):
        from slowfast_mllm.engine import export_model

        export_model(source, target)
    say(f"Wrote {target}; its graphs gave what torch gives.")
