"""Which of many labels fit a video: each by itself, or one of them."""

import time
from collections.abc import Sequence
from typing import Any

from slowfast_mllm.engine import Assistant, Encoded
from slowfast_mllm.tasks.labels import Asked, read_labels
from slowfast_mllm.tasks.likely import (
    about,
    options_after,
    unsure_warning,
    wordings,
    yes_or_no,
)
from slowfast_mllm.tasks.results import Part, Result

__all__ = ["Classification", "Label", "classify_video", "read_labels"]


class Label(Part):
    """A label and how surely it fits."""

    label: str
    probability: float
    """Of "Yes" to the label's question; with `single`, among the labels, which then sum to 1."""


class Classification(Result):
    """Which labels fit a video."""

    labels: list[Label]
    """The surest first."""
    single: bool
    """Whether just one of them fits."""


def classify_video(
    assistant: Assistant,
    video: Any,
    labels: Sequence[str | Asked],
    single: bool = False,
    **sampling: Any,
) -> Classification:
    """Say how surely each label fits a video; it is encoded once, whatever their number.

    Args:
        video: anything that `assistant.encode` takes.
        labels: in words; hundreds are asked in one pass.
        single: one of them fits: probabilities among them, as `choose_answer` gives.
        **sampling: fields of `Sampling`.

    Raises:
        VideoError: the video cannot be read.
        ValueError: there is no label, or two are equal.
    """
    asked = [Asked(label) if isinstance(label, str) else label for label in labels]
    names = [a.label for a in asked]
    if not asked or len({name.strip().casefold() for name in names}) < len(names):
        raise ValueError("labels: give at least one, and each once.")
    seen = assistant.encode(video, **sampling)
    began = time.perf_counter()
    warnings: list[str] = []
    if single:
        found = options_after(assistant, seen, wordings()["classify"], names)
        probabilities = [share.probability for share in found]
    else:
        probabilities, warnings = _each(assistant, seen, asked)
    fields = about(assistant, seen, {"single": single, **sampling}, time.perf_counter() - began)
    fields["warnings"] += warnings
    told = [Label(label=n, probability=p) for n, p in zip(names, probabilities, strict=True)]
    told.sort(key=lambda label: (-label.probability, label.label))
    return Classification(**fields, labels=told, single=single)


def _each(
    assistant: Assistant, video: Encoded, asked: Sequence[Asked]
) -> tuple[list[float], list[str]]:
    """The probability of each label, and warnings; their order changes nothing, to the last bit."""
    template = wordings()["score"]
    questions = {a.label: a.question or template.format(what=a.label) for a in asked}
    order = sorted(questions)
    answers = yes_or_no(assistant, video, [questions[label] for label in order])
    found = dict(zip(order, answers, strict=True))
    return [found[a.label].probability for a in asked], unsure_warning(answers)
