"""The folder of a run: whose it is, and where an interrupted stage goes on."""

import os
from pathlib import Path
from typing import Any


class TrainingError(RuntimeError):
    """A run that cannot start or go on, with what to do about it."""


def claim(recipe: Any, output: Path) -> None:
    """Refuse to go on with another recipe's run: its checkpoints would not fit or would mislead.

    Raises:
        TrainingError: `output` holds such a run.
    """
    record = output / "recipe.txt"
    if not record.exists():  # whole or not at all: other processes read it at the same time
        new = record.with_name(f"recipe.{os.getpid()}.new")
        new.write_text(repr(recipe))
        new.replace(record)
    if record.read_text() != repr(recipe):
        raise TrainingError(
            f"{output} holds a run of another recipe (see {record}); give another --output, or "
            "delete the folder."
        )


def last_checkpoint(folder: Path) -> str | None:
    """The newest one that is whole: its state is written last, a kill may leave less."""
    states = folder.glob("checkpoint-*/trainer_state.json")
    last = max(states, key=lambda s: int(s.parent.name.split("-")[1]), default=None)
    return None if last is None else str(last.parent)
