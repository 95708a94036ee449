"""What a language of the questions consists of; one module per language fills it in.

Makers of questions speak in neutral tuples. A reference names a thing: ("both", "red", "star"),
("shape", "star"), ("color", "red"), ("motion", "left"), ("only",), ("changing",), and of events
("text",), ("picture",), ("cut",), ("change",). An answer is a kind and its values: ("count", 2),
("object", "red", "star"), ("yes",); the sentences of a language list all kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Reference = tuple[str, ...]
Answer = tuple[Any, ...]

ALTERNATIVES = re.compile(r"\[([^][]*)\]")
_SELF = ("I ", "I'")  # beginnings that keep their capital in the middle of a sentence


@dataclass(frozen=True)
class Language:
    """``templates`` are the wordings that training draws, ``held_out`` those that it never does.

    In a template, in ``unknown`` and in ``frames``, "[a|b|]" stands for one of "a", "b", nothing.
    Both have the same keys, ``held_out`` also "unknown". ``happenings`` name events; ``definite``
    names a thing that is there, ``indefinite`` one that may not be, or a kind of things; some
    people put ``synonyms`` into these names. ``sentences`` make an answer of its values, ``mark``
    ends it. ``unknown`` are questions about what this world does not contain; ``patterns`` and
    ``things`` make more of them. ``frames`` surround a question ({Q}, or {q} as the middle of a
    sentence) and ``places`` end it with words that tell nothing, if it is one sentence without any
    of the words ``placed``.
    """

    templates: dict[str, tuple[str, ...]]
    held_out: dict[str, tuple[str, ...]]
    happenings: dict[str, str]
    definite: Callable[[Reference], str]
    indefinite: Callable[[Reference], str]
    synonyms: dict[str, tuple[str, ...]]
    sentences: dict[str, Callable[..., str]]
    mark: str
    unknown: tuple[str, ...]
    patterns: tuple[str, ...]
    things: tuple[str, ...]
    frames: tuple[str, ...]
    places: tuple[str, ...]
    placed: tuple[str, ...]

    def say(self, answer: Answer) -> str:
        """The sentence of an answer."""
        kind, *values = answer
        return self.sentences[kind](*values) + self.mark

    def ask(
        self, key: str, rng: np.random.Generator, held_out: bool, **references: Reference
    ) -> str:
        """A random wording of the question ``key``.

        ``x``, ``a``, ``b`` are things that are there ("the star"), ``any`` is one that may not be
        ("a star"), ``plural`` a kind of things.
        """
        wordings = (self.held_out if held_out else self.templates)[key]
        names = {slot: self._named(slot, thing) for slot, thing in references.items()}
        if not held_out:
            names = {slot: self._renamed(name, rng) for slot, name in names.items()}
        question = _drawn(wordings, rng).format(**names)
        return self._typed(question if held_out else self._framed(question, rng), rng)

    def _named(self, slot: str, thing: Reference) -> str:
        if slot not in ("x", "a", "b"):
            return self.indefinite(thing)
        return self.happenings.get(thing[0]) or self.definite(thing)

    def _renamed(self, name: str, rng: np.random.Generator) -> str:
        for word, others in self.synonyms.items():
            if word in name and rng.random() < 0.2:
                name = name.replace(word, str(rng.choice(others)))
        return name

    def ask_unknown(self, rng: np.random.Generator, held_out: bool) -> str:
        """A question that cannot be answered from what this world can show."""
        if held_out:
            return self._typed(str(rng.choice(self.held_out["unknown"])), rng)
        if rng.random() < 0.6:
            question = _drawn(self.unknown, rng)
        else:
            thing = str(rng.choice(self.things))
            question = _drawn(self.patterns, rng).format(thing=thing)
            if thing[0] in "aeiou":
                question = question.replace(f" a {thing}", f" an {thing}")
        return self._typed(self._framed(question, rng), rng)

    def _framed(self, question: str, rng: np.random.Generator) -> str:
        """The question with words around it that tell nothing, as people write it."""
        question = question[0].upper() + question[1:]
        words = set(re.findall(r"\w+", question.lower()))
        one = not re.search(r"[.?!:;] ", question)
        if self.places and one and not words.intersection(self.placed) and rng.random() < 0.15:
            body = question.rstrip("?.")
            question = body + str(rng.choice(self.places)) + question[len(body) :]
        while rng.random() < 0.3:  # some say something before it and something after it
            name = question[:2] in _SELF or question[1].isupper()
            lower = question if name else question[0].lower() + question[1:]
            question = _drawn(self.frames, rng).format(Q=question, q=lower)
        return question

    def _typed(self, question: str, rng: np.random.Generator) -> str:
        """As people type: some begin in lower case, some leave the mark out."""
        question = question[0].upper() + question[1:]
        if rng.random() < 0.15:
            question = question[0].lower() + question[1:]
        if rng.random() < 0.15:
            question = question.rstrip("?.？。")
        return question


def _drawn(wordings: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the wordings, with one of each of its alternatives."""
    return ALTERNATIVES.sub(
        lambda found: str(rng.choice(found[1].split("|"))), str(rng.choice(wordings))
    )
