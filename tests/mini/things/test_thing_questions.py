"""Questions about things: every answer is one that the facts give, in few words."""

import re
from collections import Counter

import numpy as np
import pytest
from thing_tokens import NAMES, tokens, track

from slowfast_mini import world
from slowfast_mini.things import (
    TYPES,
    UNKNOWN_THINGS,
    ThingFacts,
    gather_things,
    score_thing,
    thing_questions,
)
from slowfast_mini.things.language import _SHARED, LANGUAGES, QUESTIONS, draws

FRAMES = 16
TIMES = np.arange(FRAMES) * 0.5
BROWN = (0.47, 0.3, 0.15)


def street() -> ThingFacts:
    """A person at the left, a brown dog that crosses from 2 to 6 seconds, two cars at the right."""
    objects = tokens(
        FRAMES,
        track("person", range(FRAMES), (0.15, 0.5, 0.2, 0.6)),
        track("dog", range(5, 13), lambda t: (0.3 + 0.05 * (t - 5), 0.7, 0.1, 0.1), BROWN),
        track("car", range(FRAMES), (0.85, 0.3, 0.2, 0.15)),
        track("car", range(FRAMES), (0.85, 0.6, 0.2, 0.15)),
    )
    return gather_things(objects, TIMES, 8.0)


def random_facts(seed: int) -> ThingFacts:
    rng = np.random.default_rng(seed)
    tracks = []
    for _ in range(int(rng.integers(0, 5))):
        first, last = sorted(rng.integers(0, FRAMES + 1, 2).tolist())
        x, y, step = (*rng.uniform(0.1, 0.9, 2).tolist(), float(rng.choice([0.0, 0.03, -0.03])))
        size = float(rng.uniform(0.05, 0.4))
        tracks.append(
            track(
                str(rng.choice(NAMES[:20])),
                range(first, last),
                lambda t, x=x, y=y, step=step, size=size: (x + step * t, y, size, size),
                tuple(rng.uniform(0, 1, 3).tolist()),
                float(rng.uniform(0.3, 0.9)),
            )
        )
    return gather_things(tokens(FRAMES, *tracks), TIMES, 8.0)


def asked(facts: ThingFacts, language: str = "en", rounds: int = 150, **options: bool) -> list:
    return [
        qa for seed in range(rounds) for qa in thing_questions(facts, seed, language, **options)
    ]


@pytest.mark.parametrize(
    ("language", "there", "story"),
    [
        (
            "en",
            "There are two cars, a person and a dog.",
            "There are two cars, a person and a dog. The dog moves to the right. "
            "The dog appears at 2 seconds and leaves at 6 seconds.",
        ),
        (
            "zh-TW",
            "有兩輛汽車、一個人和一隻狗。",
            "有兩輛汽車、一個人和一隻狗。狗向右移動。狗在第 2 秒出現、第 6 秒離開。",
        ),
    ],
)
def test_what_is_there_and_what_happens(language: str, there: str, story: str) -> None:
    answers = {(qa.type, qa.answer) for qa in asked(street(), language, 40)}
    assert ("things", there) in answers
    assert ("thing describe", story) in answers


def test_answers_are_those_of_the_facts() -> None:
    answers: dict[str, set[str]] = {}
    for qa in asked(street()):
        answers.setdefault(qa.type, set()).add(qa.answer)
    assert answers["people"] == {"Yes.", "1."}
    assert answers["thing count"] == {"Yes.", "No.", "1.", "2.", "None."}
    assert answers["thing side"] >= {"On the left.", "I do not see one.", "Yes.", "No."}
    assert answers["thing direction"] >= {"To the right.", "It stays still.", "A dog."}
    assert answers["thing when"] >= {"At 2 seconds.", "At 6 seconds.", "For 4 seconds."}
    assert answers["thing order"] == {"The person.", "The dog.", "A dog."}
    assert answers["thing color"] >= {"Brown.", "Yes.", "No."}
    assert answers["thing size"] == {"The person."}
    assert len(answers["thing unknown"]) == 2


@pytest.mark.parametrize(
    ("score", "answer"),
    [(0.4, "There is something I cannot name."), (0.0, "I see nothing that I can name.")],
)
def test_what_has_no_name_is_given_none(score: float, answer: str) -> None:
    facts = gather_things(tokens(FRAMES, track("cat", range(FRAMES), score=score)), TIMES, 8.0)
    found = asked(facts, rounds=20)
    assert {qa.answer for qa in found if qa.type in ("things", "thing describe")} == {answer}
    if score:  # whether there is a cat is not asked
        assert not any(re.search(r"\b(cats?|kitt\w+|pussy\w*)\b", q.question) for q in found)


def test_yes_and_no_are_equally_frequent() -> None:
    answers = Counter(
        (qa.type, qa.answer)
        for seed in range(400)
        for qa in thing_questions(random_facts(seed), seed)
        if qa.answer in ("Yes.", "No.")
    )
    # Few random clips have a plain color or side.
    some = Counter((qa.type, qa.answer) for qa in asked(street(), rounds=400))
    answers += Counter({k: n for k, n in some.items() if k[0] in ("thing side", "thing color")})
    for kind in ("thing presence", "thing count", "thing side", "thing color"):
        yes, no = answers[kind, "Yes."], answers[kind, "No."]
        assert 0.4 < yes / (yes + no) < 0.6, (kind, yes, no)


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_right_answer_is_right_and_the_others_are_wrong(language: str) -> None:
    found = Counter()
    for seed in range(60):
        for qa in thing_questions(random_facts(seed), seed, language, multiple_choice=0.3):
            found[qa.type] += 1
            assert qa.answer in qa.choices
            assert score_thing(qa, qa.answer), qa
            wrong = [c for c in qa.choices if c != qa.answer and qa.seconds is None]
            assert not any(score_thing(qa, choice) for choice in wrong), qa
    assert found.keys() >= set(TYPES) - {"thing near"}


def test_order_and_a_second_do_not_count_against_an_answer() -> None:
    found = asked(street(), rounds=60)
    listed = next(qa for qa in found if qa.answer == "There are two cars, a person and a dog.")
    assert score_thing(listed, "There is a dog, two cars and a person.")
    assert not score_thing(listed, "There is a dog, a car and a person.")
    told = next(qa for qa in found if qa.type == "thing describe")
    assert score_thing(told, told.answer.replace("at 6", "at 5"))
    assert not score_thing(told, told.answer.replace("at 6", "at 4"))
    count = next(qa for qa in found if qa.type == "thing count" and qa.answer == "2.")
    assert not score_thing(count, "1.")


def test_answers_in_chinese_are_chinese_and_the_same() -> None:
    for seed in range(60):
        facts = random_facts(seed)
        english, chinese = (thing_questions(facts, seed, language) for language in LANGUAGES)
        assert [qa.type for qa in english] == [qa.type for qa in chinese]
        for qa in chinese:
            assert not re.search("[A-Za-z]", qa.answer)
            assert "{" not in qa.question


def test_the_same_rng_asks_the_same() -> None:
    assert thing_questions(street(), 3) == thing_questions(street(), 3)
    assert thing_questions(street(), 3) != thing_questions(street(), 4)


def test_nothing_is_asked_of_motion_when_the_camera_moves() -> None:
    objects = tokens(FRAMES, track("dog", range(FRAMES), lambda t: (0.05 * t, 0.5, 0.1, 0.1)))
    facts = gather_things(objects, TIMES, 8.0, still_camera=False)
    found = asked(facts, rounds=30)
    assert not any(qa.type == "thing direction" for qa in found)
    assert "There is a dog." in {qa.answer for qa in found if qa.type == "thing describe"}


@pytest.mark.parametrize(("language", "least"), [("en", 40), ("zh-TW", 30)])
def test_wordings_are_many_and_the_held_out_ones_apart(language: str, least: int) -> None:
    words, drawn = LANGUAGES[language], world.LANGUAGES[language]
    for key in QUESTIONS:
        held_out = words.held_out[key]
        assert len(words.taught[key]) >= least, key
        assert len(held_out) >= 3, key
        held_out += drawn.held_out.get(_SHARED.get(key, ""), ())
        for wording in words.taught[key]:
            assert not any(draws(wording, text) for text in held_out), wording


def test_words_of_drawn_worlds_are_not_said_of_things() -> None:
    assert not any(re.search("shape|crayon", qa.question.lower()) for qa in asked(street()))


def test_held_out_words_ask_the_same() -> None:
    for language in LANGUAGES:
        for seed in range(20):
            qas = [thing_questions(street(), seed, language, held_out=h) for h in (False, True)]
            assert [q.type for q in qas[0]] == [q.type for q in qas[1]]


def test_many_things_are_known_to_be_unknown() -> None:
    answer = "I do not know what that looks like."
    unknown = [qa.question.lower() for qa in asked(street()) if qa.answer == answer]
    words = {word.one for word in UNKNOWN_THINGS["en"]}
    assert len({w for q in unknown for w in words if re.search(rf"\b{w}", q)}) > 30
