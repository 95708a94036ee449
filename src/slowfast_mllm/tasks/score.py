"""How surely a video shows something: the probability of "Yes" to that question."""

import time
from typing import Any

from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks.likely import about, unsure_warning, wordings, yes_or_no
from slowfast_mllm.tasks.results import Result


class Score(Result):
    """How surely a video shows something."""

    question: str
    score: float
    """P(yes) / (P(yes) + P(no)) as the beginning of an answer, capitalised or not."""
    answered: float
    """P(yes) + P(no). Where it is small the model would say something else."""


def score_video(
    assistant: Assistant,
    video: Any,
    what: str | None = None,
    question: str | None = None,
    **sampling: Any,
) -> Score:
    """Say how surely a video shows something.

    Args:
        video: anything that `assistant.encode` takes.
        what: as it stands after "Does the video show", e.g. "a red star".
        question: in its place, a question with yes or no for an answer.
        **sampling: fields of `Sampling`.

    Raises:
        VideoError: the video cannot be read.
        ValueError: neither or both of `what` and `question` are given, or one is empty.
    """
    if not (what or question) or (what and question):
        raise ValueError("Say what the video should show, or give a question in its place.")
    asked = question or wordings()["score"].format(what=what)
    seen = assistant.encode(video, **sampling)
    began = time.perf_counter()
    (answer,) = yes_or_no(assistant, seen, [asked])
    fields = about(assistant, seen, sampling, time.perf_counter() - began)
    fields["warnings"] += unsure_warning([answer])
    return Score(
        **fields, question=asked, score=answer.probability, answered=answer.yes + answer.no
    )
