"""What a model thinks before it answers, told from the answer: `<think>`, and `<answer>` around it.

Whether the prompt has opened the thought, the model opens it, or it only closes it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<think>", "</think>"
CLOSED = f"\n{CLOSE}\n\n"  # how a thought is ended for a model that goes on
_BEGIN, _END = "<answer>", "</answer>"
_TAGS = (OPEN, CLOSE, _BEGIN, _END)
_TAIL = 16  # tokens of a prompt that may be an opened thought


@dataclass(frozen=True)
class Spoken:
    """The text of a model in its parts.

    Attributes:
        thought: None: it did not think aloud.
        is_over: False: the text ends in the middle of a thought.
    """

    thought: str | None
    answer: str
    is_over: bool


def opens_thought(tokenizer: Any, prompt: Sequence[int]) -> bool:
    """Whether the model goes on in a thought after this prompt."""
    end: str = tokenizer.decode(list(prompt[-_TAIL:]))
    return end.rstrip().endswith(OPEN)


def split_thought(text: str, opened: bool) -> Spoken:
    """Thought and answer, without their tags.

    Args:
        opened: as `opens_thought` says of the prompt.
    """
    thought: list[str] = []
    answer: list[str] = []
    inside, tagged = opened, opened
    for piece in re.split(f"({OPEN}|{CLOSE})", text):
        if piece == OPEN:
            inside = tagged = True
        elif piece == CLOSE:
            if not tagged:  # its beginning is not written
                thought, answer = answer, []
            inside, tagged = False, True
        else:
            (thought if inside else answer).append(piece)
    said = "".join(answer)
    if _BEGIN in said:
        said = said.partition(_BEGIN)[2].partition(_END)[0].lstrip()
    return Spoken(
        thought="".join(thought).lstrip() if tagged else None,
        answer=said.lstrip() if tagged else said,
        is_over=not inside,
    )


class ToldApart:
    """Passes on a text that comes in pieces: what is thought to one listener, the answer to
    another. What may yet become a tag is held back."""

    def __init__(
        self, opened: bool, on_thought: Callable[[str], None], on_answer: Callable[[str], None]
    ) -> None:
        self._opened = opened
        self._listeners = (on_thought, on_answer)
        self._text = ""
        self._told = ["", ""]

    def put(self, piece: str, last: bool) -> None:
        self._text += piece
        sure = self._text if last else self._text[: len(self._text) - _doubtful(self._text)]
        spoken = split_thought(sure, self._opened)
        for at, part in enumerate((spoken.thought or "", spoken.answer)):
            # A thought whose beginning is not written was taken for the answer until it ended.
            new = part.removeprefix(self._told[at])
            if new:
                self._told[at] = part
                self._listeners[at](new)


def _doubtful(text: str) -> int:
    """Characters at the end that begin a tag."""
    counts = range(min(max(map(len, _TAGS)) - 1, len(text)), 0, -1)
    return next((n for n in counts if any(tag.startswith(text[-n:]) for tag in _TAGS)), 0)
