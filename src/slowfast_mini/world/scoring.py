"""A question with its right answer, and whether a text gives that answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slowfast_mini.world.chinese import CAMERA_NAMES, COLOR_NAMES, SHAPE_NAMES
from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.script import CAMERA_MOTIONS, SHAPES

LETTERS = "ABCD"  # of the answers to choose from


@dataclass(frozen=True)
class QA:
    """A question, its one right answer, and the answers such a question can have.

    ``form`` "choice" has its options in the question and letters for answers. For "describe" and
    "unknown" there is nothing to choose from but the answer itself. ``seconds`` is the exact time
    or duration that an answer in whole seconds rounds.
    """

    type: str
    question: str
    answer: str
    choices: tuple[str, ...]
    form: Literal["open", "choice"] = "open"
    language: str = "en"
    seconds: float | None = None


def normalise(text: str) -> str:
    """Lower case words separated by single spaces, without punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


_PAIR = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b")
_TURNS = re.compile(rf"\b(?:turn|becom|chang)\w*(?: color)?(?: to| into)? ({'|'.join(COLORS)})\b")
_CAMERA = re.compile(
    r"\b(pan|tilt|zoom|roll)\w* (left|right|up|down|in|out|clockwise|counterclockwise)\b"
)
_names = "|".join(COLOR_NAMES.values())
_PAIR_CHINESE = re.compile(rf"({_names})的({'|'.join(SHAPE_NAMES.values())})")
_TURNS_CHINESE = re.compile(rf"變成({_names})")
_DOES = {
    "jumps": re.compile(r"\b(jump|hop)|跳"),
    "left": re.compile(r"\bleft\b|[向往]左"),
    "right": re.compile(r"\bright\b|[向往]右"),
    "up": re.compile(r"\bup(wards?)?\b|[向往]上"),
    "down": re.compile(r"\bdown(wards?)?\b|[向往]下"),
    "still": re.compile(r"\b(still|static|fixed|rests?|not move)\b|不動|靜止"),
}


def described(text: str) -> tuple[frozenset[tuple[str, ...]], str]:
    """What a sentence tells: of each object (colour, shape, last colour, what it does), and the
    motion of the camera; "" where it tells no more of an object, "other" for no known motion.
    """
    plain, pair, turns, camera = normalise(text).replace(" to the ", " "), _PAIR, _TURNS, "camera"
    if not pair.search(plain):
        plain, pair, turns, camera = text, _PAIR_CHINESE, _TURNS_CHINESE, "鏡頭"
    objects, motion = [], "still"
    bounds = [*(match.start() for match in pair.finditer(plain)), len(plain)]
    for start, end in zip([0, *bounds[:-1]], bounds, strict=True):
        told, mentioned, moves = plain[start:end].partition(camera)
        if mentioned:
            motion = _camera_told(moves)
        if match := pair.match(told):
            turned = turns.search(told)
            rest = told[match.end() :]
            does = next((name for name, words in _DOES.items() if words.search(rest)), "")
            objects.append((*match.groups(), turned[1] if turned else match[1], does))
    return frozenset(objects), motion


def _camera_told(moves: str) -> str:
    """The motion in what follows the word "camera"."""
    named = [motion for motion, words in CAMERA_NAMES.items() if words[2:] in moves]
    match = _CAMERA.search(moves)
    motion = f"{match[1]} {match[2]}" if match else named[0] if named else "other"
    if motion == "other" and _DOES["still"].search(moves):
        return "still"
    return motion if motion in CAMERA_MOTIONS else "other"


def score(qa: QA, text: str) -> bool:
    """Whether ``text`` answers ``qa``.

    Seconds may be one off; a description may be worded freely as long as it tells the same of the
    objects and the camera, see ``described``; of a choice only the letter counts; all else is
    matched exactly but for case, punctuation and spaces.
    """
    given, right = normalise(text), normalise(qa.answer)
    if qa.form == "choice":
        letter = re.match(r"\(?([A-D])(?:[.):]|$)", text.strip(), re.IGNORECASE)
        return letter is not None and letter[1].lower() == right
    if qa.type == "describe":
        return described(text) == described(qa.answer)
    told, true = told_seconds(text), told_seconds(qa.answer)
    if told is not None and true is not None:
        return abs(told - true) <= 1
    return given == right


def told_seconds(text: str) -> int | None:
    """The seconds of an answer like "At 3 seconds." or "3 秒。"; None for other answers."""
    told = re.fullmatch(r"(at |for |第 ?)?(\d+) ?(seconds?|秒)", normalise(text))
    return int(told[2]) if told else None


def lettered(qa: QA, wrong: list[str], rng: np.random.Generator) -> QA:
    """The same question with its answer and wrong ones to choose from by letter, in any order."""
    offered = [qa.answer, *wrong]
    order = rng.permutation(len(offered))
    letters = tuple(f"{letter}." for letter in LETTERS[: len(offered)])
    lines = [f"{letter} {offered[i]}" for letter, i in zip(letters, order, strict=True)]
    return replace(
        qa,
        question="\n".join([qa.question, *lines]),
        answer=letters[int(np.flatnonzero(order == 0)[0])],
        choices=letters,
        form="choice",
    )
