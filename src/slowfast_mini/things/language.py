"""The words of questions and answers about things, in English and in Traditional Chinese.

Answers come as a kind and its values, as in `slowfast_mini.world.language`; lists of things as
pairs of class and number. Their words are few and regular: a small model says them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slowfast_mini.things.names import CHINESE, KINDS, NAMES, UNKNOWN_THINGS, WIDER, Named, Word
from slowfast_mini.world.chinese import CHINESE as WORLD_CHINESE
from slowfast_mini.world.chinese import COLOR_NAMES
from slowfast_mini.world.english import ENGLISH as WORLD_ENGLISH
from slowfast_mini.world.language import Language, Reference
from slowfast_mini.world.wording_files import read_wordings

Items = Sequence[tuple[str, int]]
MOST_COUNTED = 5

_FOLDER = Path(__file__).with_name("wordings")
_NONE, _ONE, _TWO = frozenset[str](), frozenset({"x"}), frozenset({"a", "b"})
QUESTIONS = {
    **dict.fromkeys(("things", "anyone", "people count", "mover", "first", "comes"), _NONE),
    **dict.fromkeys(("goes", "describe", "unknown"), _NONE),
    **dict.fromkeys(("side", "direction", "moves", "when", "when gone", "duration"), _ONE),
    **dict.fromkeys(("color", "near", "unknown about"), _ONE),
    **dict.fromkeys(("which", "order", "order later", "bigger"), _TWO),
    "kind": frozenset({"kind"}),
    "at side": frozenset({"side"}),
    "presence": frozenset({"any"}),
    "presence plural": frozenset({"plural"}),
    "count": frozenset({"plural"}),
    "count check": frozenset({"counted"}),
    "side check": frozenset({"x", "side"}),
    "color check": frozenset({"x", "color"}),
}
# Questions that drawn worlds ask too, in words that fit everyday things as well.
_SHARED = {
    **{name: name for name in ("presence", "direction", "when", "when gone", "duration")},
    **{name: name for name in ("color", "order", "order later", "describe")},
    "count": "count some",
}
_DRAWN = re.compile(
    r"\b(shapes?|objects?|figures?|forms?|drawn|paint\w*|draw|crayon\w*|animation|geometric|"
    r"pigment|glyphs?|sprites?|items?)\b|圖形|形狀|物體|圖案|畫的|蠟筆|色筆|物件|顏料"
)
_MARKS = "?.？。"
_SYNONYM, _THAT = 0.4, 0.25  # how often people say another word; "that dog"

_NUMBERS = ("no", "one", "two", "three", "four", "five")
_NUMBERS_CHINESE = "零一兩三四五"
SIDES = {
    "en": {"left": "on the left", "middle": "in the middle", "right": "on the right"},
    CHINESE: {"left": "左邊", "middle": "中間", "right": "右邊"},
}
COLOR_WORDS = {
    CHINESE: COLOR_NAMES | {"pink": "粉紅色", "brown": "棕色", "gray": "灰色"},
}
_DOES = {
    "left": ("moves to the left", "向左移動"),
    "right": ("moves to the right", "向右移動"),
    "up": ("moves up", "向上移動"),
    "down": ("moves down", "向下移動"),
    "nearer": ("comes nearer", "靠近鏡頭"),
    "away": ("goes away", "遠離鏡頭"),
}


def _item(name: str, count: int) -> str:
    """For example "a dog", "two dogs", "several dogs"."""
    named = NAMES["en"][name].name
    if count == 1:
        return named.a
    return f"{_NUMBERS[count] if count <= MOST_COUNTED else 'several'} {named.many}"


def _item_chinese(name: str, count: int) -> str:
    """For example 「一隻狗」、「好幾隻狗」."""
    named = NAMES[CHINESE][name]
    number = _NUMBERS_CHINESE[count] if count <= MOST_COUNTED else "好幾"
    return f"{number}{named.measure}{named.name.one}"


def joined(parts: Sequence[str]) -> str:
    """For example "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def joined_chinese(parts: Sequence[str]) -> str:
    """For example 「甲、乙和丙」."""
    return "和".join(filter(None, ["、".join(parts[:-1]), parts[-1]]))


def _there(items: Items) -> str:
    return f"There {'is' if items[0][1] == 1 else 'are'} {joined([_item(*i) for i in items])}"


def _list(items: Items) -> str:
    text = joined([_item(*item) for item in items])
    return text[0].upper() + text[1:]


def _subject(name: str, one: bool) -> str:
    named = NAMES["en"][name].name
    return f"the {named.one if one else named.many}"


def _seconds(whole: int) -> str:
    return "1 second" if whole == 1 else f"{whole} seconds"


def _passes(name: str, one: bool, appears: int | None, leaves: int | None) -> str:
    """For example "the dog appears at 3 seconds and leaves at 5 seconds"."""
    ending = "s" if one else ""
    parts = [] if appears is None else [f"appear{ending} at {_seconds(appears)}"]
    parts += [] if leaves is None else [f"leave{ending} at {_seconds(leaves)}"]
    return f"{_subject(name, one)} {' and '.join(parts)}"


def _passes_chinese(name: str, one: bool, appears: int | None, leaves: int | None) -> str:
    parts = [] if appears is None else [f"第 {appears} 秒出現"]
    parts += [] if leaves is None else [f"第 {leaves} 秒離開"]
    return f"{NAMES[CHINESE][name].name.one}在{'、'.join(parts)}"


Movers = Sequence[tuple[str, str]]
Passers = Sequence[tuple[str, bool, int | None, int | None]]


def _describe(items: Items, movers: Movers, passers: Passers) -> str:
    sentences = [_there(items)]
    if movers:
        sentences.append(
            joined([f"the {NAMES['en'][n].name.one} {_DOES[m][0]}" for n, m in movers])
        )
    if passers:
        sentences.append(joined([_passes(*passer) for passer in passers]))
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _describe_chinese(items: Items, movers: Movers, passers: Passers) -> str:
    sentences = [f"有{joined_chinese([_item_chinese(*item) for item in items])}"]
    if movers:
        sentences.append("，".join(NAMES[CHINESE][n].name.one + _DOES[m][1] for n, m in movers))
    if passers:
        sentences.append("，".join(_passes_chinese(*passer) for passer in passers))
    return "。".join(sentences)


def _count(number: int, name: str) -> str:
    return "None" if number == 0 else str(number) if number <= MOST_COUNTED else "More than 5"


def _count_chinese(number: int, name: str) -> str:
    named = NAMES[CHINESE].get(name) or WIDER[CHINESE][name]
    if number == 0:
        return "沒有"
    return f"{number if number <= MOST_COUNTED else '超過 5'} {named.measure}"


_ENGLISH: dict[str, Callable[..., str]] = {
    **{
        kind: WORLD_ENGLISH.sentences[kind]
        for kind in ("yes", "no", "color", "start", "when", "duration", "not seen")
    },
    "right": lambda: "Yes",
    "wrong": lambda: "No",
    "there": _there,
    "list": _list,
    "thing": lambda name: _subject(name, True).capitalize(),
    "nothing": lambda: "Nothing that I can name",
    "nothing there": lambda: "I see nothing that I can name",
    "something": lambda: "There is something I cannot name",
    "count": _count,
    "side": lambda side: SIDES["en"][side].capitalize(),
    "direction": lambda motion: (
        f"It {_DOES[motion][0]}"
        if motion in ("nearer", "away")
        else WORLD_ENGLISH.sentences["direction"](motion)
    ),
    "stays": lambda: "It stays until the end",
    "whole time": lambda: "The whole time",
    "describe": _describe,
    "refused": lambda: (
        "I cannot tell that. I can name everyday things, count them, and say where and when they "
        "are seen"
    ),
    "unknown thing": lambda: "I do not know what that looks like",
}
_CHINESE: dict[str, Callable[..., str]] = {
    **{
        kind: WORLD_CHINESE.sentences[kind]
        for kind in ("yes", "no", "start", "when", "duration", "not seen")
    },
    "right": lambda: "是",
    "wrong": lambda: "不是",
    "there": lambda items: f"有{joined_chinese([_item_chinese(*item) for item in items])}",
    "list": lambda items: joined_chinese([_item_chinese(*item) for item in items]),
    "thing": lambda name: NAMES[CHINESE][name].name.one,
    "nothing": lambda: "沒有我叫得出名字的東西",
    "nothing there": lambda: "我沒有看到叫得出名字的東西",
    "something": lambda: "有我叫不出名字的東西",
    "count": _count_chinese,
    "side": lambda side: f"在{SIDES[CHINESE][side]}",
    "color": lambda color: COLOR_WORDS[CHINESE][color],
    "direction": lambda motion: (
        _DOES[motion][1]
        if motion in ("nearer", "away")
        else WORLD_CHINESE.sentences["direction"](motion)
    ),
    "stays": lambda: "一直到最後都在",
    "whole time": lambda: "從頭到尾",
    "describe": _describe_chinese,
    "refused": lambda: "這個我看不出來。我能說出日常東西的名字和數量，還有在哪裡、什麼時候出現",
    "unknown thing": lambda: "我不認得那樣東西",
}


def _language(
    world: Language, folder: Path, sentences: dict[str, Callable[..., str]], chinese: bool
) -> Language:
    # How many of something is asked with its measure word.
    counted = {"count": frozenset({"plural", "measure"})} if chinese else {}
    taught, held_out = read_wordings(folder, QUESTIONS | counted, {})
    shared = {
        key: tuple(
            wording
            for wording in world.taught[other]
            if not _DRAWN.search(wording)
            and wording not in taught[key]
            and not any(draws(wording, text) for text in held_out[key])
        )
        for key, other in _SHARED.items()
    }
    taught = {key: wordings + shared.get(key, ()) for key, wordings in taught.items()}
    around = {key: world.taught[key] for key in ("around", "places", "placed")}
    return replace(
        world,
        taught=taught | around,
        held_out=held_out,
        synonyms={},
        happenings={},
        definite=_as_it_is,
        indefinite=_as_it_is,
        sentences=sentences,
    )


def draws(wording: str, text: str) -> bool:
    """Whether one of the alternatives of a wording is `text`, but for case and its last mark."""
    parts = re.split(r"\[([^][]*)\]", wording.rstrip(_MARKS))
    pattern = "".join(
        f"(?:{'|'.join(map(re.escape, part.split('|')))})" if odd % 2 else re.escape(part)
        for odd, part in enumerate(parts)
    )
    return re.fullmatch(f"{pattern}[{_MARKS}]*", text, re.IGNORECASE) is not None


def _as_it_is(reference: Reference) -> str:
    return reference[0]


LANGUAGES: dict[str, Language] = {
    "en": _language(WORLD_ENGLISH, _FOLDER / "en", _ENGLISH, False),
    CHINESE: _language(WORLD_CHINESE, _FOLDER / CHINESE, _CHINESE, True),
}


def words_for(
    slot: str, mention: tuple[str, ...], language: str, rng: np.random.Generator, held_out: bool
) -> str:
    """Words for what a question mentions, as one of many people would say it.

    Args:
        slot: the placeholder: "x" is a thing that is there, "any" one that may not be, "plural" a
            kind of things, "counted" a number of them, "measure" their measure word.
        mention: ("class", name), as "any class" with its indefinite article anywhere, ("wider",
            word), ("narrower", class), ("unknown", number), ("side", side), ("color", color),
            ("kind", word), ("counted", class, number).
    """
    kind, *values = mention
    if kind == "side":
        return SIDES[language][values[0]]
    if kind == "kind":
        return KINDS[language][values[0]]
    if kind == "color":
        return COLOR_WORDS[language][values[0]] if language in COLOR_WORDS else values[0]
    if kind == "counted":
        item = _item_chinese if language == CHINESE else _item
        return item(values[0], int(values[1]))
    named = _named(kind, values, language)
    if slot == "measure":
        return named.measure
    word = named.name if held_out else _drawn_word(kind, named, rng)
    if slot == "plural":
        return word.many
    if language == CHINESE:
        shown = slot == "x" and named.measure and rng.random() < _THAT
        return f"那{named.measure}{word.one}" if shown else word.one
    if slot in ("x", "a", "b") and kind != "any class":
        return f"{'that' if slot == 'x' and rng.random() < _THAT else 'the'} {word.one}"
    return word.a


def _named(kind: str, values: Sequence[str], language: str) -> Named:
    if kind == "unknown":
        known = UNKNOWN_THINGS[language]
        return Named(known[int(values[0])], measure="個" if language == CHINESE else "")
    if kind == "wider":
        return WIDER[language][values[0]]
    named = NAMES[language][values[0]]
    return replace(named, name=named.narrower[0]) if kind == "narrower" else named


def _drawn_word(kind: str, named: Named, rng: np.random.Generator) -> Word:
    others = named.narrower if kind == "narrower" else named.synonyms
    if others and (kind == "narrower" or rng.random() < _SYNONYM):
        return others[int(rng.integers(len(others)))]
    return named.name
