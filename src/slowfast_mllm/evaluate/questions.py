"""Questions about videos in a table, to be put to any model, and whether an answer is right."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_mllm.tasks.cut_text import words_of
from slowfast_mllm.tasks.records import TABLES, record_of, rows_of_table
from slowfast_mllm.video.names import short_name


@dataclass(frozen=True)
class Question:
    """A row of the table.

    Attributes:
        id: the row's own, or its place.
        sampling: its bounds, `start` and `end` in seconds, where it has some.
        expected: what a right answer says; None: nobody knows.
        problem: why the row cannot be used; None: it can.
    """

    id: str
    video: str
    question: str
    sampling: dict[str, float]
    expected: str | None = None
    problem: str | None = None


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """All rows of a table (JSON Lines, CSV or Parquet) with columns `video` and `question`.

    It may have `answer`, `id`, `start` and `end`, too.

    Raises:
        ValueError: it is no such table, cannot be read, or has no rows.
    """
    table = Path(path)
    if table.suffix.lower() not in TABLES:
        raise ValueError(
            f"{short_name(str(table))}: give a table of questions, its name ending in "
            f"{', '.join(TABLES)}."
        )
    rows = rows_of_table(table, ("question", "answer"))
    return [_question(place, row, table.parent) for place, row in rows]


def _question(place: str, row: Any, home: Path) -> Question:
    record = record_of(place, row, home)
    problem, words, expected = record.problem, None, None
    if problem is None:
        words, expected = row.get("question"), row.get("answer")
        if not isinstance(words, str) or not words.strip():
            problem = f"{place}: no words under `question`."
        elif expected is not None and not words_of(str(expected)):
            problem = f"{place}: no words under `answer`; leave it out where none is known."
    bounds = {"start": record.start, "end": record.end}
    return Question(
        id=str(row.get("id", place)) if isinstance(row, dict) else place,
        video=record.video,
        question=words if isinstance(words, str) else "",
        sampling={name: at for name, at in bounds.items() if at is not None},
        expected=None if expected is None else str(expected),
        problem=problem,
    )


def is_right(answer: str, expected: str) -> bool:
    """Whether what was expected is among the words of an answer, in one piece and any casing."""
    said, wanted = words_of(answer), words_of(expected)
    return any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1))
