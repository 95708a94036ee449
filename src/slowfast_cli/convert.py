"""`slowfast convert`: an official checkpoint to the native layout, with processor files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from slowfast_cli.loading import working
from slowfast_cli.terminal import say


def convert(
    source: Annotated[str, typer.Argument(help="Official checkpoint: a folder or a hub id.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    official: Annotated[
        bool, typer.Option(help="Write the official tensor names instead of the native ones.")
    ] = False,
    quantize: Annotated[
        Literal["int8", "int4"] | None,
        typer.Option(help="Narrow weights of the language model, for CPUs."),
    ] = None,
) -> None:
    """Write a checkpoint in the native layout (weights keep their dtype, unless quantized)."""
    with working("Converting"):
        from slowfast_mllm.engine import convert_checkpoint

        convert_checkpoint(source, target, official, quantize)
    say(f"Wrote {target}")
