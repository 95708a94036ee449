"""Captions without what a model adds when it does not know how to end."""

import re
from itertools import pairwise

# A word, or one character of a script that is written without spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")
_INSIDE = r"[^\W\u3040-\u30ff\u3400-\u9fff]"  # a letter that others of its word may stand beside
_PHRASE = rf"(?<!{_INSIDE})(\w.{{%s,400}}?)(?!{_INSIDE})(?:[\s,;]*\%s(?!{_INSIDE})){{%s,}}"
# What is said three times in a row; a longer phrase twice.
_LOOP = re.compile(f"(?is){_PHRASE % (2, 1, 2)}|{_PHRASE % (20, 2, 1)}")


def without_loops(text: str) -> str:
    """Text in which a phrase that is said again and again stands once, and nothing after it."""
    if (loop := _LOOP.search(text)) is None:
        return text
    return text[: loop.start()] + (loop[1] or loop[2]).rstrip(" ,;")


def words_of(text: str) -> list[str]:
    """In lower case, without what stands around them; of some scripts, characters."""
    found = (word.strip(".,;:!?\"'()").lower() for word in _WORD.findall(text))
    return [word for word in found if word]


def at_most(text: str, words: int) -> str:
    """The whole sentences among so many words; if there is none, the words and "…"."""
    found = list(_WORD.finditer(text))
    if len(found) <= words:
        return text
    text = text[: found[words - 1].end()]
    return whole_sentences(text) if _SENTENCE_END.search(text) else f"{text}…"


def sentences(text: str) -> list[str]:
    """One by one; what is left at the end is one, too."""
    bounds = [0, *(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[first:last].strip() for first, last in pairwise(bounds))
    return [part for part in parts if part]


def whole_sentences(text: str) -> str:
    """Text up to its last full stop; all of it where there is none."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else text
