"""A job over very many videos: what is not in the output yet is done and written as it comes.

Who does it is not known here: this process, or workers on other machines.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slowfast_mllm.tasks.journal import Journal
from slowfast_mllm.tasks.records import Record

# A record with its result's fields, or with the error in its place.
Outcomes = Iterator[tuple[Record, dict[str, Any] | Exception]]


@dataclass(frozen=True)
class Progress:
    """How far a job over many videos is.

    Attributes:
        total: without those that were there before.
        seconds: since it began.
    """

    done: int
    failed: int
    total: int
    seconds: float

    @property
    def rate(self) -> float:
        """Videos a second."""
        return (self.done + self.failed) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        """At the same rate; infinite where nothing is done yet."""
        left = self.total - self.done - self.failed
        return left / self.rate if self.rate else float("inf")


OnProgress = Callable[[Progress], None]


def results_into(
    output: Path,
    same: dict[str, Any],
    records: Iterable[Record],
    outcomes_of: Callable[[list[Record]], Outcomes],
    on_progress: OnProgress = lambda progress: None,
) -> Progress:
    """Write the results that are not in a JSON Lines file yet, each once, as they come.

    Args:
        output: ends in `.jsonl`; what failed is told in `.errors.jsonl` beside it.
        same: fields that all rows have, with these values.
        outcomes_of: does what is left, in any order.

    Raises:
        ValueError: `output` is another program's or was made with other settings.
        OSError: it cannot be written (any more).
    """
    with Journal(output, same) as journal:
        left = [record for record in records if record.id not in journal.done]
        began = time.perf_counter()
        progress = Progress(0, 0, len(left), 0.0)
        on_progress(progress)
        with closing(outcomes_of(left)) as outcomes:  # type: ignore[type-var]
            for record, outcome in outcomes:
                seconds = time.perf_counter() - began
                if isinstance(outcome, Exception):
                    journal.fail(record.id, record.video, outcome)
                    progress = replace(progress, failed=progress.failed + 1, seconds=seconds)
                else:
                    journal.append(record.id, outcome)
                    progress = replace(progress, done=progress.done + 1, seconds=seconds)
                on_progress(progress)
    return progress
