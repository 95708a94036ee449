"""The benchmark of real clips: how answers read, what counts, and that its words are its own."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast_mini import world
from slowfast_mini.things import CLASSES, gather_things
from slowfast_mini.things.language import LANGUAGES
from slowfast_mini.things.names import NAMES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from real_clips import by_rule, over_windows  # noqa: E402
from real_questions import (  # noqa: E402
    IN_WINDOWS,
    WORDINGS,
    Question,
    absent_things,
    questions_of,
    read_answer,
)
from real_scores import Scores, always_the_same, totals_table  # noqa: E402

TRUTHS = json.loads((BENCHMARKS / "real_clips_truth.json").read_text(encoding="utf-8"))["clips"]


@pytest.mark.parametrize(
    ("kind", "answer", "told"),
    [
        ("things", ("there", (("dog", 1), ("cup", 3))), ["dog", "cup"]),
        ("things", ("nothing there",), []),
        ("things", ("refused",), []),
        ("presence", ("yes",), True),
        ("presence", ("no",), False),
        ("presence", ("unknown thing",), None),
        ("people", ("count", 0, "person"), 0),
        ("people", ("count", 3, "person"), 3),
        ("people", ("count", 6, "person"), 6),
        ("people", ("refused",), None),
        ("appears", ("when", 4), 4),
        ("appears", ("start",), None),
        ("gone", ("stays",), None),
        ("side", ("side", "middle"), "middle"),
        ("side", ("not seen",), "not seen"),
        ("direction", ("direction", "up"), "up"),
        ("direction", ("direction", "nearer"), "nearer"),
        ("direction", ("direction", "right"), "right"),
        ("color", ("color", "gray"), "gray"),
        ("untaught", ("refused",), True),
        ("untaught", ("yes",), False),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_what_the_model_says_of_things_reads_back(kind, answer, told, language):
    assert read_answer(kind, LANGUAGES[language].say(answer), language) == told


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_what_the_model_says_of_camera_and_cuts_reads_back(language):
    say = world.LANGUAGES[language].say
    assert [read_answer("camera", say(("camera", m)), language) for m in world.CAMERA_MOTIONS] == [
        *world.CAMERA_MOTIONS
    ]
    assert [read_answer("cuts", say(("cuts", n)), language) for n in range(4)] == [0, 1, 2, 3]
    assert read_answer("untaught", say(("unknown",)), language) is True


def test_windows_add_up():
    assert over_windows("camera", ["still", "pan left", "pan left", None]) == "pan left"
    assert over_windows("cuts", [1, None, 2]) == 3
    assert over_windows("enters", [False, None, True]) is True


def test_answers_are_counted():
    scores = Scores()
    scores.add_things(["dog", "cat", "bench"], {"dog", "person"}, ["bench"])
    assert (scores.named, scores.precision, scores.recall) == ([1, 1, 1], 0.5, 0.5)
    for truth, told, p_yes in ((True, True, 0.95), (True, False, 0.45), (False, None, 0.15)):
        scores.add(Question("presence", "", truth, "dog"), told, p_yes)
    assert scores.balanced == 0.25  # of two that are there one is seen; who says nothing is wrong
    # 0.95 and 0.85 sure, both right; 0.55 sure and wrong.
    assert scores.calibration_error == pytest.approx((0.05 + 0.15 + 0.55) / 3)
    for told in (3, 4.4, 5, None):
        scores.add(Question("gone", "", 3.9, "dog"), told)
    scores.add(Question("direction", "", ["up", "left"], "dog"), "left")
    assert (scores.share("when"), scores.share("direction")) == ((2, 4), (1, 1))
    for told in ("left", "right", None, "not seen"):  # the side is scored of things found
        scores.add(Question("side", "", "left", "dog"), told)
    assert (scores.share("side"), scores.share("side found")) == ((1, 3), (3, 4))
    scores.add_camera("zoom in", {"moves": True, "kinds": ["pan left"]})
    scores.add_camera("still", {"moves": False, "kinds": []})
    scores.add_camera(None, {"moves": True, "kinds": []})
    assert (scores.share("camera moves"), scores.share("camera kind")) == ((2, 3), (0, 1))
    table = totals_table({"model": scores, "rule": Scores()})
    assert "| when within 1 s | 0.50 (2 of 4) | – |" in table
    assert "cuts" not in table


def test_what_needs_no_look_is_told():
    still, moving = (
        {"camera": {"moves": moves, "kinds": kinds}}
        for moves, kinds in ((False, []), (True, ["pan left", "zoom in"]))
    )
    asked = [(Question("camera", "", t["camera"]), t) for t in (still, still, still, moving)]
    asked += [(Question("gone", "", seconds, "dog"), still) for seconds in (1.2, 2.8, 7.0)]
    asked += [(Question("side", "", side, "dog"), still) for side in ("left", "middle", "middle")]
    best = always_the_same(asked)
    kinds = ("camera moves", "camera kind", "when", "side", "side found")
    assert [best.share(k) for k in kinds] == [(3, 4), (1, 1), (2, 3), (2, 3), (0, 0)]


def test_the_rule_answers_what_the_tokens_tell():
    tokens = np.zeros((8, 1, len(CLASSES) + 11))
    tokens[4:, 0, list(CLASSES).index("dog")] = 0.9
    tokens[4:, 0, len(CLASSES) :] = [0.8, 0.5, 0.2, 0.2, 0.9, 1, 0.9, 0.9, 0.9, 0, 0]
    facts = gather_things(tokens, np.arange(8) / 2, 4.0)
    asked = {k: by_rule(Question(k, "", thing="dog"), facts) for k in ("appears", "gone", "side")}
    assert asked == {"appears": 1.75, "gone": None, "side": "right"}
    assert by_rule(Question("things", ""), facts) == ["dog"]
    assert by_rule(Question("presence", "", thing="cat"), facts) is False
    assert by_rule(Question("people", ""), facts) == 0
    assert by_rule(Question("side", "", thing="cat"), facts) == "not seen"


def test_the_truth_can_be_asked():
    for name, truth in TRUTHS.items():
        assert {*truth["things"], *truth["doubtful"]} <= set(CLASSES), name
        assert not {*truth["things"]} & {*truth["doubtful"]}, name
        assert {*truth["camera"]["kinds"]} <= {*world.CAMERA_MOTIONS}, name
        absent = absent_things(name, truth)
        assert len(absent) == max(len(truth["things"]), 2)
        assert not {*absent} & {*truth["things"], *truth["doubtful"]}, name
        english, chinese = (questions_of(name, truth, language) for language in ("en", "zh-TW"))
        told = [[(q.kind, q.thing, q.span, q.truth) for q in some] for some in (english, chinese)]
        plain = [[fact for fact in some if fact[0] in ("presence", "gone")] for some in told]
        assert plain[0] == plain[1] != [], name
        for question in english:
            if question.kind in ("appears", "gone"):
                assert 0 < question.truth < question.span[1] - question.span[0], name


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_nothing_is_asked_in_words_that_are_taught(language):
    named = NAMES[language]["dog"]
    the = f"那{named.measure}{named.name.one}" if language == "zh-TW" else f"the {named.name.one}"
    words = {"a": named.name.a, "one": named.name.one, "the": the}
    told = "|".join(map(re.escape, {*words.values(), named.name.many}))
    parts = re.compile(r"(\[[^][]*\]|\{\w+\})")

    def pattern(wording: str) -> re.Pattern[str]:
        found = ""
        for part in parts.split(wording.rstrip("?？.。")):
            some = part[1:-1].split("|")
            found += (
                f"(?:{'|'.join(map(re.escape, some))})"
                if part[:1] == "["
                else (f"(?:{told})" if part[:1] == "{" else re.escape(part))
            )
        return re.compile(f"{found}[?？.。]?", re.IGNORECASE)

    taught = [
        pattern(wording)
        for taught in (world.LANGUAGES[language].taught, LANGUAGES[language].taught)
        for kind, wordings in taught.items()
        if kind not in ("around", "places", "placed")
        for wording in wordings
        if isinstance(wording, str)
    ]
    for kind, wordings in WORDINGS[language].items():
        for wording in wordings:
            if kind not in IN_WINDOWS:  # drawn worlds ask these: the plainest words are wanted, too
                said = wording.format(**words)
                assert not [p.pattern for p in taught if p.fullmatch(said)], said
