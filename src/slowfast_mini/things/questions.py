"""Questions about the things that a detector followed through a clip, and their answers."""

from __future__ import annotations

import numpy as np

from slowfast_mini.things.facts import ThingFacts
from slowfast_mini.things.language import LANGUAGES, words_for
from slowfast_mini.things.names import CHINESE, named_things
from slowfast_mini.things.options import MAKERS
from slowfast_mini.things.scoring import score_thing
from slowfast_mini.world.scoring import LETTERS, QA, lettered, told_seconds

Rng = np.random.Generator

TYPES = tuple(MAKERS)


def thing_questions(
    facts: ThingFacts,
    rng: Rng | int,
    language: str = "en",
    multiple_choice: float = 0.0,
    held_out: bool = False,
) -> list[QA]:
    """One or two questions of every type that the facts can decide.

    Args:
        rng: what is asked, and in what words; what is asked does not depend on the language.
        language: "en" or "zh-TW".
        multiple_choice: share of the questions that offer two to four answers by letter.
        held_out: in words that are never drawn without this.
    """
    rng = np.random.default_rng(rng)
    words = LANGUAGES[language]
    style = np.random.default_rng(rng.integers(2**63))
    result: list[QA] = []
    for kind, make in MAKERS.items():
        options = make(facts, rng)
        for index in rng.permutation(len(options))[: int(rng.integers(1, 3))]:
            option = options[index]
            mentions = {
                slot: (words_for(slot, thing, language, style, held_out),)
                for slot, thing in option.mentions.items()
            }
            if "plural" in mentions and language == CHINESE:
                measured = option.mentions["plural"]
                mentions["measure"] = (words_for("measure", measured, language, style, held_out),)
            question = words.ask(option.key, style, held_out, **mentions)
            choices = tuple(dict.fromkeys(words.say(choice) for choice in option.choices))
            answer = words.say(option.answer)
            qa = QA(kind, question, answer, choices, "open", language, option.seconds)
            if len(choices) > 1 and style.random() < multiple_choice:
                qa = _as_choice(qa, style, facts.duration)
            result.append(qa)
    return result


def _as_choice(qa: QA, rng: Rng, duration: float) -> QA:
    """The same question with up to four answers to choose from by letter."""
    wrong = [choice for choice in qa.choices if not score_thing(qa, choice)]
    wrong = [choice for choice in wrong if (told_seconds(choice) or 0) <= duration]
    if not wrong:
        return qa
    drawn = rng.permutation(len(wrong))[: len(LETTERS) - 1]
    return lettered(qa, [wrong[int(i)] for i in drawn], rng)


def is_known_now(qa: QA) -> bool:
    """Whether it is beyond what drawn worlds teach, but about a thing that a detector knows."""
    return qa.type == "unknown" and bool(named_things(qa.question, qa.language))
