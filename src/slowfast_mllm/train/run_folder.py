"""What all runs share: whose a folder is, where a stage goes on, what a run cannot go on with."""

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from slowfast_mllm.model.whole_checkpoint import first_line

# Of what a run has computed; features are of the tower and the clips of their recipe.
_TRACES = (
    *("*/checkpoint-*", "*/clips_seen.txt", "*/*/clips_seen.txt"),
    *("*/model", "*/weights.safetensors", "*/done"),  # all that may be left of a finished stage
)


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


def check_finite(name: str, value: float, trainer: Any, what: Any) -> None:
    """Stop a run whose loss or gradient is not a number, before weights are made of it.

    Args:
        name: "loss" or "gradient".
        what: what the step learned from.

    Raises:
        TrainingError: it is not finite.
    """
    if not math.isfinite(value):
        folder = trainer.args.output_dir
        raise TrainingError(
            f"step {trainer.state.global_step}: the {name} is {value} for {what}; the last "
            f"checkpoints are in {folder}. Begin anew with a lower learning rate and another "
            "--output, or run again without bad records; should that stop at once, delete the "
            "newest checkpoint first."
        )


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """What the libraries below say when nothing more can be written, in words.

    Raises:
        TrainingError: a checkpoint or a model could not be written, or the one to go on from is
            damaged.
    """
    try:
        yield
    except (SafetensorError, OSError, RuntimeError) as error:
        if isinstance(error, SafetensorError) and "deserializ" in str(error):
            raise TrainingError(
                f"{folder}: its newest checkpoint is damaged ({first_line(error)}); delete that "
                "one and run again."
            ) from error
        numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        full = isinstance(error, SafetensorError) or getattr(error, "errno", None) in numbers
        if not full and "inline_container" not in str(error):  # torch.save
            raise
        raise TrainingError(
            f"{folder}: cannot be written to ({first_line(error)}); is the disk full? What is "
            "there is whole: make room and run again."
        ) from error


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
