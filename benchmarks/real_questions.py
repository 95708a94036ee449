"""What is asked of real clips, in everyday words that training never draws, and how answers read.

Every question is asked in each of its wordings. What is true of a clip is told in
`real_clips_truth.json`.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slowfast_mini import world
from slowfast_mini.things import BROADER, CLASSES, named_things
from slowfast_mini.things.language import COLOR_WORDS, LANGUAGES
from slowfast_mini.things.names import NAMES
from slowfast_mini.things.thing_colors import COLORS

ENGLISH, CHINESE = "en", "zh-TW"
NOT_SEEN = "not seen"  # what is told of a thing that is not found
# Asked of every window of some seconds; the others of the whole clip, or of a stretch of it.
IN_WINDOWS = ("camera", "cuts", "moves", "enters", "leaves")
WORDINGS = {
    ENGLISH: {
        "camera": (
            "How does the camera move?",
            "Does whoever films this move the camera, and how?",
        ),
        "cuts": ("How many cuts are there?", "How often does one shot give way to another one?"),
        "moves": ("Does anything move?",),
        "enters": ("Does something new come into view?",),
        "leaves": ("Does anything disappear?",),
        "things": (
            "Which everyday things does the camera show us?",
            "Would you go through what can be made out here?",
            "I only hear the sound. What would I see?",
        ),
        "presence": ("Would I find {a} in here?", "Does {a} show up anywhere in this clip?"),
        "people": ("How many people can one count here?", "What number of people do you make out?"),
        "appears": ("When does {the} come into the picture?", "When do we get to see {the} first?"),
        "gone": (
            "When is {the} off screen for good?",
            "At which second do we miss {the}?",
        ),
        "side": (
            "Is {the} to the left, in the middle or to the right?",
            "Where should I look for {the}: left, middle or right?",
        ),
        "direction": ("Where is {the} heading?", "Which way does {the} go in this clip?"),
        "color": ("What color would you say {the} is?", "Which color does {the} have here?"),
        "untaught": (
            "Who is the person in front?",
            "Why is everybody in a hurry?",
            "Which noise can be heard?",
            "Would my grandmother like it there?",
            "What breed would you say that is?",
            "How does everyone there feel about it?",
            "Which town was this filmed in?",
            "What does it smell of there?",
        ),
    },
    CHINESE: {
        "camera": ("鏡頭怎麼移動？", "拍的人有沒有轉動鏡頭，怎麼轉？"),
        "cuts": ("有幾次剪接？", "一個鏡頭換到下一個，總共換了幾回？"),
        "moves": ("有東西在動嗎？",),
        "enters": ("有新的東西進來嗎？",),
        "leaves": ("有東西消失嗎？",),
        "things": (
            "鏡頭帶我們看了哪些日常的東西？",
            "幫我一樣一樣說出裡面看得出來的東西，好嗎？",
            "我只聽得到聲音，畫面上會看到什麼東西？",
        ),
        "presence": ("這段影片裡找得到{one}嗎？", "畫面上哪裡出現過{one}嗎？"),
        "people": ("這裡面數得到幾個人？", "你看得出總共是幾個人嗎？"),
        "appears": ("{the}是第幾秒進到畫面裡的？", "我們要到第幾秒才看得到{the}？"),
        "gone": ("{the}是第幾秒離開畫面的？", "{the}到第幾秒就走掉了？"),
        "side": ("{the}偏左、在正中間，還是偏右？", "我該往左邊、中間還是右邊找{the}？"),
        "direction": ("{the}要往哪裡去？", "這段影片裡{the}是朝哪個方向走？"),
        "color": ("你會說{the}是什麼顏色？", "{the}在這裡看起來是什麼顏色？"),
        "untaught": (
            "前面那個人叫什麼名字？",
            "大家為什麼這麼趕？",
            "這家店賣些什麼？",
            "誰會先到終點？",
            "那是什麼品種？",
            "在場的人心情怎麼樣？",
            "這座城市叫什麼？",
            "那裡聞起來是什麼味道？",
        ),
    },
}


@dataclass(frozen=True)
class Question:
    """One question in one wording.

    Attributes:
        kind: a key of `WORDINGS`.
        truth: what `is_right` compares with.
        thing: the COCO name that it is about.
        span: the stretch of the file that is shown, in seconds; None: all of it, or windows.
        wording: which of the wordings.
    """

    kind: str
    text: str
    truth: Any = None
    thing: str | None = None
    span: tuple[float, float] | None = None
    wording: int = 0


def questions_of(name: str, truth: dict[str, Any], language: str) -> list[Question]:
    """All questions about one clip (see `real_clips_truth.json`) that its truth can decide."""
    decided = (*_about_all(truth), *_about_things(name, truth), *_about_stretches(truth))
    return [
        Question(kind, wording.format(**_words(thing, language)), value, thing, span, number)
        for kind, value, thing, span in (*decided, ("untaught", True, None, None))
        for number, wording in enumerate(WORDINGS[language][kind])
    ]


# Kind of question, what is true, the thing it is about, and the stretch that is shown.
_Decided = tuple[str, Any, str | None, tuple[float, float] | None]


def _about_all(truth: dict[str, Any]) -> Iterator[_Decided]:
    yield "camera", truth["camera"], None, None
    yield "cuts", len(truth["cuts"]), None, None
    yield "moves", True, None, None
    for kind in ("enters", "leaves"):
        if truth.get(kind):
            yield kind, True, None, None


def _about_things(name: str, truth: dict[str, Any]) -> Iterator[_Decided]:
    yield "things", set(truth["things"]), None, None
    for thing in truth["things"]:
        yield "presence", True, thing, None
    for thing in absent_things(name, truth):
        yield "presence", False, thing, None
    if truth["people"] is not None:
        yield "people", truth["people"], None, None


def _about_stretches(truth: dict[str, Any]) -> Iterator[_Decided]:
    for event in truth.get("events", ()):
        kind, key = ("appears", "appears") if "appears" in event else ("gone", "leaves")
        start, end = event["span"]
        yield kind, event[key] - start, event["thing"], (start, end)
    for kind, facts, key in (
        ("side", "sides", "side"),
        ("direction", "directions", "directions"),
        ("color", "colors", "colors"),
    ):
        for fact in truth.get(facts, ()):
            span = fact.get("span")
            yield kind, fact[key], fact["thing"], None if span is None else (span[0], span[1])


def absent_things(name: str, truth: dict[str, Any]) -> list[str]:
    """As many classes as are there (at least two) that certainly are not, half of them likely
    confusions of what is there; always the same of a clip."""
    rng = random.Random(name)
    free = sorted(set(CLASSES) - {*truth["things"], *truth["doubtful"]})
    likely = {other for thing in truth["things"] for other in CLASSES[thing].confused}
    likely |= {o for thing in truth["things"] for w in CLASSES[thing].broader for o in BROADER[w]}
    count = max(len(truth["things"]), 2)
    near = sorted(likely.intersection(free))
    chosen = rng.sample(near, min(len(near), (count + 1) // 2))
    return chosen + rng.sample([c for c in free if c not in chosen], count - len(chosen))


def _words(thing: str | None, language: str) -> dict[str, str]:
    if thing is None:
        return {}
    named = NAMES[language][thing]
    one = named.name.one
    the = f"那{named.measure}{one}" if language == CHINESE else f"the {one}"
    return {"a": named.name.a, "one": one, "the": the}


_SAID_NO_NUMBER = re.compile(r"沒有|^none\b|^no\b|\bnobody\b|\bno one\b")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
_NUMBERS_CHINESE = {word: n for n, word in enumerate("零一二三四五六")} | {"兩": 2}
_SIDES = (("left", "左"), ("middle", "中|center|centre"), ("right", "右"))
_WAYS = (
    ("nearer", "nearer|closer|towards? (us|the camera)|靠近"),
    ("away", "away|遠離"),
    ("left", "left|左"),
    ("right", "right|右"),
    ("up", r"\bup|上"),
    ("down", "down|下"),
    ("still", "still|不動"),
)


def read_answer(kind: str, said: str, language: str) -> Any:
    """What an answer tells of a question of this kind; None where it tells nothing of it."""
    text = said.strip().lower().rstrip(".。")
    if kind == "untaught":
        return turned_away(said, language)
    if kind == "things":
        return named_things(said, language)
    if turned_away(said, language):
        return None
    if said.strip() == LANGUAGES[language].say((NOT_SEEN,)):
        return NOT_SEEN
    if kind in ("presence", "moves", "enters", "leaves"):
        return _yes_or_no(text)
    if kind in ("people", "cuts"):
        return _number(text)
    if kind in ("appears", "gone"):
        return _seconds(text)
    if kind == "camera":
        return _CAMERA.get(text)
    if kind == "color":
        words = COLOR_WORDS.get(language, {})
        return next((c for c in COLORS if words.get(c, c) in text), None)
    table = _SIDES if kind == "side" else _WAYS
    return next((name for name, words in table if re.search(f"{name}|{words}", text)), None)


_CAMERA = {
    world.LANGUAGES[language].say(("camera", motion)).lower().rstrip(".。"): motion
    for language in (ENGLISH, CHINESE)
    for motion in world.CAMERA_MOTIONS
}


def turned_away(said: str, language: str) -> bool:
    """Whether an answer says that it cannot be told."""
    return said.strip() in {
        *(world.LANGUAGES[language].say((kind,)) for kind in ("unknown",)),
        *(LANGUAGES[language].say((kind,)) for kind in ("refused", "unknown thing")),
    }


def _yes_or_no(text: str) -> bool | None:
    if re.match(r"no\b|沒有|不是|否", text):
        return False
    return True if re.match(r"yes\b|有|是", text) else None


def _number(text: str) -> int | None:
    if "more than" in text or "超過" in text:
        return 6
    if _SAID_NO_NUMBER.search(text) or "no cuts" in text:
        return 0
    digits = re.search(r"\d+", text)
    if digits:
        return int(digits[0])
    words = re.findall(rf"\b({'|'.join(_NUMBERS)})\b", text)
    if words:
        return _NUMBERS.index(words[0])
    return next((_NUMBERS_CHINESE[c] for c in text if c in _NUMBERS_CHINESE), None)


def _seconds(text: str) -> float | None:
    told = re.search(r"(\d+(?:\.\d+)?) ?(?:seconds?|s\b|秒)", text)
    return float(told[1]) if told else None


def is_right(question: Question, told: Any) -> bool | None:
    """Whether what was told is true. Seconds may be one off. Things and the camera are scored
    otherwise: None."""
    if question.kind in ("things", "camera"):
        return None
    if question.kind in ("appears", "gone"):
        return isinstance(told, int | float) and abs(told - question.truth) <= 1
    if question.kind in ("direction", "color"):
        return told in question.truth
    return told == question.truth
