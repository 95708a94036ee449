"""Questions with exact answers about a clip, decidable from its frames."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import numpy.typing as npt

from slowfast_mini.world.chinese import CHINESE
from slowfast_mini.world.english import ENGLISH
from slowfast_mini.world.facts import gather
from slowfast_mini.world.language import Language
from slowfast_mini.world.options import MAKERS
from slowfast_mini.world.sampling import sample_script
from slowfast_mini.world.scoring import LETTERS, QA, lettered, score, told_seconds
from slowfast_mini.world.script import Script, stream

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

LANGUAGES: dict[str, Language] = {"en": ENGLISH, "zh-TW": CHINESE}
TYPES = tuple(MAKERS)
_COUNTED = range(500_000, 500_400)  # clips, of which answers are counted


def questions(
    script: Script,
    rng: Rng | int,
    timestamps: Floats,
    language: str = "en",
    multiple_choice: float = 0.0,
    held_out: bool = False,
) -> list[QA]:
    """One or two questions of every type that the frames at ``timestamps`` (T,) can decide.

    Args:
        language: a key of LANGUAGES.
        multiple_choice: share of the questions that offer two to four answers by letter.
        held_out: in words that are never drawn without this.
    """
    if not isinstance(rng, np.random.Generator):
        rng = stream(rng, "questions")
    facts = gather(script, timestamps)
    words = LANGUAGES[language]
    # What is asked does not depend on the words, so that every language asks the same.
    style = np.random.default_rng(rng.integers(2**63))
    result: list[QA] = []
    for kind, make in MAKERS.items():
        options = make(facts, rng)
        chosen = rng.permutation(len(options))[: int(rng.integers(1, 3))]
        for index in chosen:
            option = options[index]
            if option.key == "unknown":
                question = words.ask_unknown(style, held_out)
            else:
                question = words.ask(option.key, style, held_out, **option.mentions)
            choices = tuple(dict.fromkeys(words.say(choice) for choice in option.choices))
            answer = words.say(option.answer)
            qa = QA(kind, question, answer, choices, "open", language, option.seconds)
            if len(choices) > 1 and style.random() < multiple_choice:
                qa = _as_choice(qa, style, script.duration)
            result.append(qa)
    return result


def _as_choice(qa: QA, rng: Rng, duration: float) -> QA:
    """The same question with up to four answers to choose from by letter."""
    # A time a second off is as right as its neighbour where the exact one lies between two frames.
    wrong = [choice for choice in qa.choices if not score(qa, choice)]
    wrong = [choice for choice in wrong if (told_seconds(choice) or 0) <= duration]
    if not wrong:
        return qa
    # As often offered as right: else whoever knows what is often right need not look.
    shares = _answer_counts(qa.language)
    weights = np.array([shares[qa.type, choice] + 0.2 for choice in wrong])
    drawn = rng.choice(
        len(wrong), min(len(LETTERS) - 1, len(wrong)), replace=False, p=weights / weights.sum()
    )
    return lettered(qa, [wrong[int(i)] for i in drawn], rng)


@cache
def _answer_counts(language: str) -> Counter[tuple[str, str]]:
    """How often each answer to a type of question is right, in some hundred clips."""
    counts: Counter[tuple[str, str]] = Counter()
    for seed in _COUNTED:
        script = sample_script(seed)
        times = np.linspace(0.0, script.duration, 33)[:-1]
        counts.update((qa.type, qa.answer) for qa in questions(script, seed, times, language))
    return counts
