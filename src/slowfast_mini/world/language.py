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

from slowfast_mini.world.wording_files import ALTERNATIVES, UNKNOWN, Sections

Reference = tuple[str, ...]
Answer = tuple[Any, ...]

_SELF = ("I ", "I'")  # beginnings that keep their capital in the middle of a sentence


@dataclass(frozen=True)
class Language:
    """``taught`` are the wordings that training draws, ``held_out`` those that it never does, both
    by section (see ``wording_files``).

    ``happenings`` name events; ``definite`` names a thing that is there, ``indefinite`` one that
    may not be, or a kind of things; some people put ``synonyms`` into these names. ``sentences``
    make an answer of its values, ``mark`` ends it.
    """

    taught: Sections
    held_out: Sections
    happenings: dict[str, str]
    definite: Callable[[Reference], str]
    indefinite: Callable[[Reference], str]
    synonyms: dict[str, tuple[str, ...]]
    sentences: dict[str, Callable[..., str]]
    mark: str

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
        wordings = (self.held_out if held_out else self.taught)[key]
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
            return self._typed(str(rng.choice(self.held_out[UNKNOWN])), rng)
        if rng.random() < 0.6:
            question = _drawn(self.taught[UNKNOWN], rng)
        else:
            thing = str(rng.choice(self.taught["things"]))
            question = _drawn(self.taught["unknown things"], rng).format(thing=thing)
            if thing[0] in "aeiou":
                question = question.replace(f" a {thing}", f" an {thing}")
        return self._typed(self._framed(question, rng), rng)

    def _framed(self, question: str, rng: np.random.Generator) -> str:
        """The question with words around it that tell nothing, as people write it."""
        question = question[0].upper() + question[1:]
        words = set(re.findall(r"\w+", question.lower()))
        one = not re.search(r"[.?!:;] ", question)
        places = self.taught["places"]
        if places and one and not words.intersection(self.taught["placed"]) and rng.random() < 0.15:
            body = question.rstrip("?.")
            question = f"{body} {rng.choice(places)}{question[len(body) :]}"
        while rng.random() < 0.3:  # some say something before it and something after it
            name = question[:2] in _SELF or question[1].isupper()
            lower = question if name else question[0].lower() + question[1:]
            question = _drawn(self.taught["around"], rng).format(Q=question, q=lower)
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
