"""What the things that the detector knows are called: names, other words for them, wider words.

All of it lies in `names.json`; for every class also what the detector takes it for, and words for
kinds of it ("parrot") that the detector cannot tell apart.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CHINESE = "zh-TW"


@dataclass(frozen=True)
class Word:
    """What something is called: "dog", "dogs", "a"; in Chinese "狗", "狗" and the measure word."""

    one: str
    many: str
    article: str = ""

    @property
    def a(self) -> str:
        """With its article, where there is one: "a dog"."""
        return f"{self.article} {self.one}".strip()


@dataclass(frozen=True)
class Named:
    """The words of one class or wider word in one language.

    `name` is what answers say, `synonyms` what people say too; `narrower` are kinds of it.
    `measure` is the Chinese measure word.
    """

    name: Word
    synonyms: tuple[Word, ...] = ()
    narrower: tuple[Word, ...] = ()
    measure: str = ""


@dataclass(frozen=True)
class KnownClass:
    """A class of the detector: wider words, classes it is taken for, whether its middle has its
    color (of a bicycle one sees what is behind it)."""

    broader: tuple[str, ...]
    confused: tuple[str, ...]
    colored: bool


def _word(one: str, many: str, article: str | None = None) -> Word:
    return Word(one, many, article or ("an" if one[0].lower() in "aeiou" else "a"))


def _chinese(entry: dict[str, Any]) -> Named:
    return Named(
        Word(entry["name"], entry["name"]),
        tuple(Word(w, w) for w in entry.get("synonyms", ())),
        tuple(Word(w, w) for w in entry.get("narrower", ())),
        entry["measure"],
    )


_DATA = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
CLASSES: dict[str, KnownClass] = {  # in the detector's order
    name: KnownClass(tuple(entry["broader"]), tuple(entry["confused"]), entry["colored"])
    for name, entry in _DATA["classes"].items()
}
BROADER: dict[str, frozenset[str]] = {  # wider words and the classes that they mean
    word: frozenset(name for name, known in CLASSES.items() if word in known.broader)
    for word in _DATA["broader"]
}
NAMES: dict[str, dict[str, Named]] = {  # by language, then by class
    "en": {
        name: Named(
            _word(entry["one"], entry["many"], entry["article"]),
            tuple(_word(*forms) for forms in entry["synonyms"]),
            tuple(_word(*forms) for forms in entry["narrower"]),
        )
        for name, entry in _DATA["classes"].items()
    },
    CHINESE: {name: _chinese(entry[CHINESE]) for name, entry in _DATA["classes"].items()},
}
WIDER: dict[str, dict[str, Named]] = {  # by language, then by wider word
    "en": {
        word: Named(_word(*entry["synonyms"][0]), tuple(_word(*w) for w in entry["synonyms"][1:]))
        for word, entry in _DATA["broader"].items()
    },
    CHINESE: {word: _chinese(entry[CHINESE]) for word, entry in _DATA["broader"].items()},
}
# What "kind" is asked of: "Which animal is it?", "Which furniture do you see?"
KINDS: dict[str, dict[str, str]] = {
    "en": {word: entry["kind"] for word, entry in _DATA["broader"].items()},
    CHINESE: {word: named.name.one for word, named in WIDER[CHINESE].items()},
}
UNKNOWN_THINGS: dict[str, tuple[Word, ...]] = {  # what the detector was never shown
    "en": tuple(_word(entry["one"], entry["many"]) for entry in _DATA["unknown"]),
    CHINESE: tuple(Word(entry[CHINESE], entry[CHINESE]) for entry in _DATA["unknown"]),
}


@cache
def _finder(language: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern for all words of all classes, the longest first, and their classes."""
    found = {
        form.lower(): name
        for name, named in NAMES[language].items()
        for word in (named.name, *named.synonyms)
        for form in (word.one, word.many)
    }
    found |= {name: name for name in CLASSES} if language == "en" else {}
    # What is no known thing but has the name of one in it: a "police car" is one, "cow's milk" not.
    unknown = {f.lower() for w in UNKNOWN_THINGS[language] for f in (w.one, w.many)}
    words = sorted(found.keys() | unknown, key=len, reverse=True)
    edge = r"\b" if language == "en" else ""
    return re.compile(f"{edge}({'|'.join(map(re.escape, words))}){edge}"), found


def named_things(text: str, language: str = "en") -> list[str]:
    """The classes that `text` names by any of their words, in the order of the text."""
    return list(dict.fromkeys(name for name, _ in find_names(text, language)))


def find_names(text: str, language: str = "en") -> Iterator[tuple[str, int]]:
    """Each class that `text` names, and the index behind its word."""
    pattern, classes = _finder(language)
    for match in pattern.finditer(text.lower()):
        if match[1] in classes:
            yield classes[match[1]], match.end(1)
