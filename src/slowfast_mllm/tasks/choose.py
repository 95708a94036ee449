"""One of several answers to a question about a video: the one that seeing it makes likelier."""

import time
from collections.abc import Sequence
from typing import Any

from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks.likely import about, options_after
from slowfast_mllm.tasks.results import Part, Result


class Option(Part):
    """An answer that could be chosen."""

    text: str
    looking: float
    """Natural logarithm of its probability after the question, per token."""
    not_looking: float
    """The same about a grey clip of the same length: what its words alone make likely."""
    probability: float
    """Among the options, after both; these sum to 1."""


class Choice(Result):
    """Which of several answers fits a video."""

    question: str
    answer: str
    """The option with the highest probability."""
    options: list[Option]
    """In the order in which they were given, which changes nothing."""


def choose_answer(
    assistant: Assistant, video: Any, question: str, options: Sequence[str], **sampling: Any
) -> Choice:
    """Choose an answer to a question about a video.

    An option is not chosen because it is short, or a likely answer to anything: lengths are evened
    out, and what a grey clip makes likely counts for less.

    Args:
        video: anything that `assistant.encode` takes.
        options: two or more, in words as the model would answer.
        **sampling: fields of `Sampling`.

    Raises:
        VideoError: the video cannot be read.
        ValueError: there are fewer than two options, or two are equal.
    """
    seen = assistant.encode(video, **sampling)
    began = time.perf_counter()
    found = options_after(assistant, seen, question, options)
    told = [Option(text=text, **vars(share)) for text, share in zip(options, found, strict=True)]
    return Choice(
        **about(assistant, seen, sampling, time.perf_counter() - began),
        question=question,
        answer=max(told, key=lambda option: (option.probability, option.text)).text,
        options=told,
    )
