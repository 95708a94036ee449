"""Names of things: complete, and no word that means two of them."""

import json
from pathlib import Path

import pytest

from slowfast_mini.things import BROADER, CLASSES, UNKNOWN_THINGS, named_things
from slowfast_mini.things.names import NAMES, WIDER

LABELS = Path(__file__).parents[4] / "shared/everyday/photos/labels.json"


def forms(language: str, name: str) -> set[str]:
    named = NAMES[language][name]
    return {form for word in (named.name, *named.synonyms) for form in (word.one, word.many)}


def test_there_are_the_80_classes_of_the_detector_in_its_order() -> None:
    assert len(CLASSES) == 80
    assert list(CLASSES)[:3] == ["person", "bicycle", "car"]
    assert list(CLASSES)[-1] == "toothbrush"
    if LABELS.exists():
        assert list(CLASSES) == json.loads(LABELS.read_text(encoding="utf-8"))["classes"]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_a_word_means_one_class(language: str) -> None:
    assert NAMES[language].keys() == CLASSES.keys()
    words = [word for name in CLASSES for word in forms(language, name)]
    words += {w for wider in WIDER[language].values() for w in (wider.name.one, wider.name.many)}
    words += {form for word in UNKNOWN_THINGS[language] for form in (word.one, word.many)}
    assert len(words) == len(set(words)), sorted(w for w in set(words) if words.count(w) > 1)


def test_confusions_and_wider_words_are_of_known_classes() -> None:
    for name, known in CLASSES.items():
        assert name not in known.confused
        assert set(known.confused) <= CLASSES.keys()
        assert set(known.broader) <= BROADER.keys()
    assert all(len(members) > 1 for members in BROADER.values())


def test_chinese_names_have_measure_words_and_no_latin_letters() -> None:
    for name in CLASSES:
        assert NAMES["zh-TW"][name].measure
        assert not any(c.isascii() for word in forms("zh-TW", name) for c in word)
    assert len(UNKNOWN_THINGS["en"]) == len(UNKNOWN_THINGS["zh-TW"]) >= 150


@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("There is a person and two dogs.", "en", ["person", "dog"]),
        ("Three people and a lorry", "en", ["person", "truck"]),
        ("My couch, two phones and a hot dog", "en", ["couch", "cell phone", "hot dog"]),
        ("A teddy bear by the wine glasses", "en", ["teddy bear", "wine glass"]),
        ("A guitar and a carpet", "en", []),
        ("有一個人和兩隻狗。", "zh-TW", ["person", "dog"]),
        ("一隻泰迪熊、一張桌子", "zh-TW", ["teddy bear", "dining table"]),
    ],
)
def test_what_a_sentence_names(text: str, language: str, named: list[str]) -> None:
    assert named_things(text, language) == named
