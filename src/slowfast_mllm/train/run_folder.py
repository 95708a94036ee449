"""What all runs share: whose a folder is, where a stage goes on, what a run cannot go on with."""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch

# Of what a run has computed; features are of the tower and the clips of their recipe.
_TRACES = ("*/checkpoint-*", "*/clips_seen.txt", "*/*/clips_seen.txt")


class TrainingError(RuntimeError):
    """A run that cannot start or go on, with what to do about it."""


def claim(recipe: Any, output: Path) -> None:
    """Refuse to go on with another recipe's run: its checkpoints would not fit or would mislead.

    A folder in which nothing was computed yet is anybody's: the first try may have failed.

    Raises:
        TrainingError: `output` holds such a run.
    """
    record = output / "recipe.txt"
    begun = any(next(output.glob(trace), None) for trace in _TRACES)
    if not (record.exists() and begun):  # whole: other processes read it at the same time
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
    states = filter(_is_whole, folder.glob("checkpoint-*/trainer_state.json"))
    last = max(states, key=lambda s: int(s.parent.name.split("-")[1]), default=None)
    return None if last is None else str(last.parent)


def _is_whole(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text()))
    except ValueError:
        return False


def check_loss(loss: float, trainer: Any, what: Any) -> None:
    """Stop a run whose loss is not a number, before a checkpoint is made of it.

    Args:
        what: what the step learned from.

    Raises:
        TrainingError: it is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"step {trainer.state.global_step}: the loss is {loss} for {what}; the last good "
            f"checkpoint is in {trainer.args.output_dir}. Lower the learning rate, or leave "
            "these out."
        )


def check_devices() -> None:
    """Refuse what transformers would do with several GPUs in one process: it splits clips.

    Raises:
        TrainingError: there are several, and no launcher shared them out.
    """
    count = torch.cuda.device_count()
    if count > 1 and "LOCAL_RANK" not in os.environ:
        raise TrainingError(
            f"{count} GPUs for one process: choose one with CUDA_VISIBLE_DEVICES=0, or start "
            f"`torchrun --no-python --nproc-per-node {count} slowfast train ...` for records."
        )
