"""Labels to classify by, from a text file or built in; no model."""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from slowfast_mllm.video.names import short_name

BUILT_IN = {"camera-motion": "camera_motion.txt"}


@dataclass(frozen=True)
class Asked:
    """A label, and the question that is asked for it; None: whether the video shows it."""

    label: str
    question: str | None = None


def read_labels(source: str | os.PathLike[str]) -> list[Asked]:
    """Labels of a text file, or built-in ones by name (`camera-motion`).

    A label a line; after a tab, a question with yes or no for an answer. Lines that begin with #
    are skipped.

    Raises:
        ValueError: there are none, or the file cannot be read.
    """
    name = short_name(os.fspath(source))
    try:
        if source in BUILT_IN:
            place = files("slowfast_mllm.tasks").joinpath(BUILT_IN[str(source)])
            text = place.read_text(encoding="utf-8")
        else:
            text = Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{name}: labels cannot be read ({error}); give a UTF-8 text file with one a line, or "
            f"{', '.join(BUILT_IN)}."
        ) from error
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            label, _, question = line.partition("\t")
            found.append(Asked(label.strip(), question.strip() or None))
    if not found:
        raise ValueError(f"{name}: no labels in it; write one a line.")
    return found
