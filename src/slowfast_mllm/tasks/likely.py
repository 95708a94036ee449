"""What choosing, classifying and scoring share: how likely answers are, as probabilities.

Nothing is drawn and nothing is parsed: the model is asked how likely it finds answers that are
known beforehand, all of them in one pass over what it remembers of the video.
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from slowfast_mllm.engine import Assistant, Encoded, Likelihood
from slowfast_mllm.engine.frame_choice import settings_of
from slowfast_mllm.tasks.results import Clip, Frames, versions
from slowfast_mllm.video.names import short_name

_GREY, _SIDE = 128, 64  # of the pictures of a clip that shows nothing
_UNSURE = 0.1
_EVEN = 0.5  # of what is expected without looking; less was no better on questions of the world


@functools.cache
def wordings() -> dict[str, Any]:
    """The words in which models are asked, and those that mean yes and no."""
    text = files("slowfast_mllm.tasks").joinpath("wording.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def refuse_without_likelihoods(assistant: Assistant) -> None:
    """Say in one line that a model cannot serve.

    Raises:
        ValueError: it does not say how likely answers are, or reads no questions.
    """
    can = assistant.capabilities
    if not (can.likelihoods and can.questions):
        raise ValueError(
            f"{assistant.name}: this model "
            f"{'does not say how likely an answer is' if can.questions else 'reads no questions'}; "
            "choose another to compare answers (`slowfast models` lists some)."
        )


@dataclass(frozen=True)
class YesNo:
    """Probabilities that an answer begins with yes, or with no."""

    yes: float
    no: float

    @property
    def probability(self) -> float:
        """Of yes, where it is one of the two."""
        return self.yes / (self.yes + self.no) if self.yes + self.no else 0.5


def yes_or_no(assistant: Assistant, video: Encoded, questions: Sequence[str]) -> list[YesNo]:
    """Of each of several questions about a video.

    Raises:
        ValueError: a question is empty, or the model cannot be asked like this.
    """
    refuse_without_likelihoods(assistant)
    yes, no = wordings()["yes"], wordings()["no"]
    return _yes_no(assistant.likelihoods_each(video, questions, [*yes, *no]))


def yes_or_no_about(assistant: Assistant, videos: Sequence[Encoded], question: str) -> list[YesNo]:
    """As `yes_or_no`, of one question about several videos."""
    refuse_without_likelihoods(assistant)
    yes, no = wordings()["yes"], wordings()["no"]
    return _yes_no(assistant.likelihoods_about(videos, question, [*yes, *no]))


def _yes_no(found: Sequence[Sequence[Likelihood]]) -> list[YesNo]:
    """Of what is told of each word for yes, then of each for no."""
    count = len(wordings()["yes"])
    shares = [[math.exp(answer.log_probability) for answer in answers] for answers in found]
    return [YesNo(sum(each[:count]), sum(each[count:])) for each in shares]


def unsure_warning(answers: Sequence[YesNo]) -> list[str]:
    """What is to be said where a model would not answer yes or no at all."""
    least = min(answer.yes + answer.no for answer in answers)
    if least >= _UNSURE:
        return []
    return [
        "the model would rather answer something else than yes or no (which hold "
        f"{least:.1%} of its probability): ask in other words"
    ]


@dataclass(frozen=True)
class OptionShare:
    """How well an option fits, among others.

    Attributes:
        looking, not_looking: natural logarithm of its probability per token after the question,
            about the video and about a grey clip of the same length.
        probability: among the options.
    """

    looking: float
    not_looking: float
    probability: float


def options_after(
    assistant: Assistant, video: Encoded, question: str, options: Sequence[str]
) -> list[OptionShare]:
    """How well each option answers the question; their order changes nothing, to the last bit.

    All count as if they had as many tokens as they have on average: a short one gains nothing. What
    the grey clip makes likely counts against an option, but by half: the other half of what is
    expected without looking is spread evenly, for a grey clip shows something too: nothing.

    Raises:
        ValueError: there are fewer than two, two of them are equal, or the model cannot be asked
            like this.
    """
    refuse_without_likelihoods(assistant)
    order = sorted(_checked(options))
    looking, not_looking = (
        assistant.likelihoods(seen, question, order)
        for seen in (video, _nothing_like(assistant, video))
    )
    length = sum(answer.num_tokens for answer in looking) / len(order)
    expected = _shares([length * answer.per_token for answer in not_looking])
    fits = _shares(
        [
            length * answer.per_token - math.log(_EVEN / len(order) + (1 - _EVEN) * share)
            for answer, share in zip(looking, expected, strict=True)
        ]
    )
    found = {
        option: OptionShare(mine.per_token, grey.per_token, fit)
        for option, mine, grey, fit in zip(order, looking, not_looking, fits, strict=True)
    }
    return [found[option.strip()] for option in options]


def _checked(options: Sequence[str]) -> list[str]:
    words = [option.strip() for option in options]
    if len(words) < 2:
        raise ValueError("options: give two or more to choose from.")
    seen: dict[str, str] = {}
    for word in words:
        if word.casefold() in seen:
            raise ValueError(
                f"The option {short_name(word)!r} is given twice; give options that differ."
            )
        seen[word.casefold()] = word
    return words


def _nothing_like(assistant: Assistant, video: Encoded) -> Encoded:
    """A grey clip with as many frames over as long a time."""
    times = video.timestamps
    seconds = times[-1] - times[0]
    grey = np.full((len(times), _SIDE, _SIDE, 3), _GREY, np.uint8)
    rate = (len(times) - 1) / seconds if seconds > 0 else 1.0
    return assistant.encode(grey, num_frames=len(times), frames_fps=rate)


def _shares(logarithms: Sequence[float]) -> list[float]:
    """Probabilities that sum to 1, of logarithms of what is in proportion to them."""
    top = max(logarithms)
    parts = [math.exp(value - top) for value in logarithms]
    whole = math.fsum(parts)
    return [part / whole for part in parts]


def about(
    assistant: Assistant, video: Encoded, settings: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Fields that every `Result` has; `seconds` is how long the answers took."""
    return {
        "model": assistant.name,
        "software": versions(),
        "video": Clip.of(video.info),
        "frames": Frames(indices=video.frame_indices, timestamps=video.timestamps),
        "settings": settings | settings_of(video.frame_choice),
        "timing": {**video.timing, "likelihoods": seconds},
        "warnings": list(video.info.warnings),
    }
