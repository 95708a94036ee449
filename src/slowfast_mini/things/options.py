"""What can be asked of the facts about things, and the answers: in neutral tuples, see language.py.

A mention is ("class", name), or one of those that `language.words_for` lists.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slowfast_mini.things.facts import SIDES, Thing, ThingFacts
from slowfast_mini.things.language import MOST_COUNTED
from slowfast_mini.things.names import BROADER, CLASSES, NAMES, UNKNOWN_THINGS
from slowfast_mini.things.thing_colors import COLORS
from slowfast_mini.world.language import Answer
from slowfast_mini.world.options import Option

Rng = np.random.Generator

MOST_NAMED = 4  # things in an answer
_MOST_TOLD = 2  # things that a description says to move, and to come or go
_COARSE = 0.9  # seconds between frames beyond which times cannot be told
_NEXT = 1.5  # steps between two things of which one is first
_BIGGER = 2.0  # times the area

# What is asked of things that the detector was never shown, and the placeholder of them.
_OF_UNKNOWN = (
    *(("presence", "any"), ("presence", "any"), ("presence plural", "plural")),
    *(("count", "plural"), ("color", "x"), ("side", "x"), ("when", "x")),
)

_YES_NO: tuple[Answer, ...] = (("yes",), ("no",))
_RIGHT_WRONG: tuple[Answer, ...] = (("right",), ("wrong",))
_NOT_SEEN: Answer = ("not seen",)
_REFUSED: Answer = ("refused",)
_NOTHING: Answer = ("nothing",)
_SIDE_CHOICES: tuple[Answer, ...] = tuple(("side", side) for side in SIDES)
_DIRECTIONS = ("left", "right", "up", "down", "nearer", "away", "still")
_DIRECTION_CHOICES: tuple[Answer, ...] = tuple(("direction", m) for m in _DIRECTIONS)
_COLOR_CHOICES: tuple[Answer, ...] = tuple(("color", c) for c in COLORS)
_WHEN: tuple[Answer, ...] = (("start",), *(("when", n) for n in range(1, 13)))
_LASTS: tuple[Answer, ...] = (("whole time",), *(("duration", n) for n in range(1, 13)))


def _option(
    key: str, answer: Answer, choices: tuple[Answer, ...], **mentions: tuple[str, ...]
) -> Option:
    return Option(key, answer, choices, mentions)


def _items(things: list[Thing] | tuple[Thing, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((thing.name, thing.count) for thing in things[:MOST_NAMED])


def _single(facts: ThingFacts) -> list[Thing]:
    """Things that one can speak of as "the dog"."""
    return [thing for thing in facts.things if thing.alone]


def _refer(facts: ThingFacts, thing: Thing, rng: Rng) -> tuple[str, ...]:
    """A mention of one thing that is there, now and then by a wider word or by a kind of it."""
    if thing.name == "person":  # which of them it is the question knows, not we
        return ("narrower" if rng.random() < 0.3 else "class", thing.name)
    wider = [
        word
        for word in CLASSES[thing.name].broader
        if all(other is thing or other.name not in BROADER[word] for other in facts.things)
        and not BROADER[word].intersection(facts.perhaps)
    ]
    if wider and rng.random() < 0.15:
        return "wider", str(rng.choice(wider))
    return "class", thing.name


def _unseen(facts: ThingFacts, rng: Rng) -> str | None:
    """A class that is not there: half the time one that could be taken for what is there."""
    absent = set(facts.absent)
    near = {c for thing in facts.things for c in CLASSES[thing.name].confused}
    for thing in facts.things:
        near |= {c for word in CLASSES[thing.name].broader for c in BROADER[word]}
    likely = sorted(near & absent)
    if likely and rng.random() < 0.5:
        return str(rng.choice(likely))
    return str(rng.choice(sorted(absent))) if absent else None


def _nothing_named(facts: ThingFacts) -> Answer:
    return ("something",) if facts.perhaps else ("nothing there",)


def _things(facts: ThingFacts, rng: Rng) -> list[Option]:
    if not facts.things:
        answer = _nothing_named(facts)
        return [_option("things", answer, (answer,))]
    answer = ("there", _items(facts.things))
    options = [_option("things", answer, (answer,))]
    options += _kinds(facts, rng) + _which(facts, rng)
    side = str(rng.choice(SIDES))
    if all(thing.side is not None for thing in facts.things):
        there = [thing for thing in facts.things if thing.side == side]
        if there or rng.random() < 0.4:
            told: Answer = ("list", _items(there)) if there else _NOTHING
            options.append(_option("at side", told, (told,), side=("side", side)))
    return options


def _kinds(facts: ThingFacts, rng: Rng) -> list[Option]:
    """Which animal is it?"""
    options = []
    for word, members in BROADER.items():
        there = [thing for thing in facts.things if thing.name in members]
        if there:
            answer: Answer = ("list", _items(there))
            options.append(_option("kind", answer, (answer,), kind=("kind", word)))
    free = [w for w, m in BROADER.items() if not m.intersection([*facts.seen, *facts.perhaps])]
    if free and rng.random() < 0.2:
        word = str(rng.choice(free))
        options.append(_option("kind", _NOT_SEEN, (_NOT_SEEN,), kind=("kind", word)))
    return options


def _which(facts: ThingFacts, rng: Rng) -> list[Option]:
    """Is it a cat or a dog?"""
    other = _unseen(facts, rng)
    if not facts.things or other is None:
        return []
    thing = facts.things[int(rng.integers(len(facts.things)))]
    none = rng.random() < 0.15
    another = _unseen(facts, rng)
    one = another if none else thing.name
    if one is None or one == other:
        return []
    pair = [one, other] if rng.random() < 0.5 else [other, one]
    answer: Answer = _NOT_SEEN if none else ("list", ((thing.name, 1),))
    choices: tuple[Answer, ...] = (*(("list", ((name, 1),)) for name in pair), _NOT_SEEN)
    mentions = {slot: ("any class", name) for slot, name in zip("ab", pair, strict=True)}
    return [_option("which", answer, choices, **mentions)]


def _presence(facts: ThingFacts, rng: Rng) -> list[Option]:
    options: list[Option] = []

    def ask(answer: Answer, thing: tuple[str, ...]) -> None:
        key = "presence" if rng.random() < 0.6 else "presence plural"
        slot = "any" if key == "presence" else "plural"
        options.append(_option(key, answer, _YES_NO, **{slot: thing}))

    for _ in range(2):
        wider = rng.random() < 0.25
        if facts.things and rng.random() < 0.5:
            name = facts.things[int(rng.integers(len(facts.things)))].name
            words = CLASSES[name].broader
            ask(("yes",), ("wider", str(rng.choice(words))) if words and wider else ("class", name))
        elif facts.things or rng.random() < 0.3:  # of clips without things most say nothing
            free = [
                word
                for word, members in BROADER.items()
                if not members.intersection([*facts.seen, *facts.perhaps])
            ]
            absent = _unseen(facts, rng)
            if wider and free:
                ask(("no",), ("wider", str(rng.choice(free))))
            elif absent is not None:
                kinds = wider and absent == "person"
                ask(("no",), ("narrower" if kinds else "class", absent))
    return options


def _people(facts: ThingFacts, rng: Rng) -> list[Option]:
    if "person" in facts.perhaps:
        return []
    there = "person" in facts.seen
    options = []
    if there or not facts.things or rng.random() < 0.5:
        options.append(_option("anyone", ("yes",) if there else ("no",), _YES_NO))
    if there or rng.random() < 0.5:
        choices = tuple(("count", n, "person") for n in range(MOST_COUNTED + 1))
        number = min(facts.people, MOST_COUNTED + 1)
        options.append(_option("people count", ("count", number, "person"), choices))
    return options


def _count(facts: ThingFacts, rng: Rng) -> list[Option]:
    options = []
    for thing in facts.things:
        several = thing.count > 1
        if several or rng.random() < 0.25:
            options.append(_how_many(("class", thing.name), thing.count, thing.name))
        if several or rng.random() < 0.3:
            options.append(_check_count(thing, rng))
        for word in CLASSES[thing.name].broader:
            others = [other for other in facts.things if other.name in BROADER[word]]
            if len(others) > 1 and not BROADER[word].intersection(facts.perhaps):
                options.append(_how_many(("wider", word), sum(o.count for o in others), word))
    absent = _unseen(facts, rng)
    if absent is not None and rng.random() < 0.25:
        options.append(_how_many(("class", absent), 0, absent))
    return options


def _how_many(mention: tuple[str, ...], number: int, name: str) -> Option:
    choices = tuple(("count", n, name) for n in range(MOST_COUNTED + 1))
    answer = ("count", min(number, MOST_COUNTED + 1), name)
    return _option("count", answer, choices, plural=mention)


def _check_count(thing: Thing, rng: Rng) -> Option:
    """Are there two dogs?"""
    right = min(thing.count, MOST_COUNTED + 1)
    others = [n for n in range(1, MOST_COUNTED + 1) if n != right and abs(n - right) <= 2]
    true = right <= MOST_COUNTED and rng.random() < 0.5
    number = right if true else int(rng.choice(others))
    counted = ("counted", thing.name, str(number))
    answer: Answer = ("right",) if true else ("wrong",)
    return _option("count check", answer, _RIGHT_WRONG, counted=counted)


def _unseen_option(
    facts: ThingFacts, rng: Rng, key: str, choices: tuple[Answer, ...]
) -> list[Option]:
    """Now and then about something that is not there."""
    absent = _unseen(facts, rng)
    if absent is None or rng.random() >= 0.2:
        return []
    return [_option(key, _NOT_SEEN, (*choices, _NOT_SEEN), x=("class", absent))]


def _side(facts: ThingFacts, rng: Rng) -> list[Option]:
    options = _unseen_option(facts, rng, "side", _SIDE_CHOICES)
    for thing in _single(facts):
        if thing.side is None:
            continue
        x = _refer(facts, thing, rng)
        options.append(_option("side", ("side", thing.side), _SIDE_CHOICES, x=x))
        true = rng.random() < 0.5
        side = thing.side if true else str(rng.choice([s for s in SIDES if s != thing.side]))
        answer: Answer = ("right",) if true else ("wrong",)
        options.append(_option("side check", answer, _RIGHT_WRONG, x=x, side=("side", side)))
    return options


def _direction(facts: ThingFacts, rng: Rng) -> list[Option]:
    if not facts.still_camera or facts.step > _COARSE:
        return []
    options = _unseen_option(facts, rng, "direction", _DIRECTION_CHOICES)
    for thing in _single(facts):
        x = _refer(facts, thing, rng)
        # Most things rest; moving ones are the harder to see.
        if thing.motion is not None and (thing.motion != "still" or rng.random() < 0.4):
            answer: Answer = ("direction", thing.motion)
            options.append(_option("direction", answer, _DIRECTION_CHOICES, x=x))
        if thing.moves is not None and (thing.moves or rng.random() < 0.5):
            options.append(_option("moves", _YES_NO[not thing.moves], _YES_NO, x=x))
    if all(thing.moves is not None for thing in facts.things) and not facts.perhaps:
        moving = [thing for thing in facts.things if thing.moves]
        if moving or rng.random() < 0.15:
            told: Answer = ("list", _items(moving)) if moving else _NOTHING
            options.append(_option("mover", told, (told,)))
    return options


def _whole(seconds: float) -> int:
    return int(np.floor(seconds + 0.5))


def _timed(
    key: str, kind: str, seconds: float, choices: tuple[Answer, ...], x: tuple[str, ...]
) -> Option:
    return Option(key, (kind, _whole(seconds)), choices, {"x": x}, seconds)


def _when(facts: ThingFacts, rng: Rng) -> list[Option]:
    if facts.step > _COARSE or len(facts.times) < 2:
        return []
    options = _unseen_option(facts, rng, "when", _WHEN)
    for thing in _single(facts):
        if thing.clear:
            x = _refer(facts, thing, rng)
            options += _comes_and_goes(thing, x, rng) + _lasts(thing, x, rng)
    return options


def _comes_and_goes(thing: Thing, x: tuple[str, ...], rng: Rng) -> list[Option]:
    options = []
    gone: tuple[Answer, ...] = (("stays",), *_WHEN[1:])
    if thing.appears is not None and _whole(thing.appears) > 0:
        options.append(_timed("when", "when", thing.appears, _WHEN, x))
    elif thing.appears is None and rng.random() < 0.3:
        options.append(_option("when", ("start",), _WHEN, x=x))
    if thing.leaves is not None and _whole(thing.leaves) > 0:
        options.append(_timed("when gone", "when", thing.leaves, gone, x))
    elif thing.leaves is None and rng.random() < 0.2:
        options.append(_option("when gone", ("stays",), gone, x=x))
    return options


def _lasts(thing: Thing, x: tuple[str, ...], rng: Rng) -> list[Option]:
    whole = len(thing.intervals) == 1 and thing.appears is None and thing.leaves is None
    if whole:
        answer: Answer = ("whole time",)
        return [_option("duration", answer, _LASTS, x=x)] if rng.random() < 0.2 else []
    if _whole(thing.seconds) == 0:
        return []
    return [_timed("duration", "duration", thing.seconds, _LASTS, x)]


def _order(facts: ThingFacts, rng: Rng) -> list[Option]:
    """What comes first, what comes and goes; only where everything is clear."""
    if facts.step > _COARSE or not facts.things or not all(t.clear for t in facts.things):
        return []
    options = []
    begins = [(0.0 if t.appears is None else t.appears, t) for t in facts.things]
    begins.sort(key=lambda item: item[0])
    apart = max(_NEXT * facts.step, 0.8)
    single = [(at, thing) for at, thing in begins if thing.alone]
    pairs = [(a, b) for at, a in single for after, b in single if after - at > apart]
    if pairs:
        early, late = pairs[int(rng.integers(len(pairs)))]
        pair = (early, late) if rng.random() < 0.5 else (late, early)
        choices: tuple[Answer, ...] = tuple(("thing", thing.name) for thing in pair)
        mentions = {slot: ("class", t.name) for slot, t in zip("ab", pair, strict=True)}
        options.append(_option("order", ("thing", early.name), choices, **mentions))
        options.append(_option("order later", ("thing", late.name), choices, **mentions))
    if len(begins) > 1 and begins[1][0] - begins[0][0] > apart and not facts.perhaps:
        answer: Answer = ("list", _items([begins[0][1]]))
        options.append(_option("first", answer, tuple(("list", _items([t])) for _, t in begins)))
    comers = [thing for thing in facts.things if thing.appears is not None]
    goers = [thing for thing in facts.things if thing.leaves is not None]
    for key, some in (("comes", comers), ("goes", goers)):
        if some or (not facts.perhaps and rng.random() < 0.25):
            told: Answer = ("list", _items(some)) if some else _NOTHING
            options.append(_option(key, told, (told,)))
    return options


def _color(facts: ThingFacts, rng: Rng) -> list[Option]:
    options = []
    for thing in _single(facts):
        if thing.color is None:
            continue
        x = _refer(facts, thing, rng)
        options.append(_option("color", ("color", thing.color), _COLOR_CHOICES, x=x))
        true = rng.random() < 0.5
        color = thing.color if true else str(rng.choice([c for c in COLORS if c != thing.color]))
        answer: Answer = ("right",) if true else ("wrong",)
        options.append(_option("color check", answer, _RIGHT_WRONG, x=x, color=("color", color)))
    return options + (_unseen_option(facts, rng, "color", _COLOR_CHOICES) if options else [])


def _near(facts: ThingFacts, rng: Rng) -> list[Option]:
    options = []
    for thing in _single(facts):
        if thing.near is None or (not thing.near and rng.random() < 0.7):
            continue
        there = [other for other in facts.things if other.name in thing.near]
        answer: Answer = ("list", _items(there)) if there else _NOTHING
        options.append(_option("near", answer, (answer,), x=_refer(facts, thing, rng)))
    return options


def _size(facts: ThingFacts, rng: Rng) -> list[Option]:
    single = _single(facts)
    pairs = [(a, b) for a in single for b in single if a.area >= _BIGGER * b.area]
    if not pairs:
        return []
    big, small = pairs[int(rng.integers(len(pairs)))]
    pair = (big, small) if rng.random() < 0.5 else (small, big)
    choices: tuple[Answer, ...] = tuple(("thing", thing.name) for thing in pair)
    mentions = {slot: ("class", t.name) for slot, t in zip("ab", pair, strict=True)}
    return [_option("bigger", ("thing", big.name), choices, **mentions)]


def _describe(facts: ThingFacts, rng: Rng) -> list[Option]:
    answer = _nothing_named(facts) if not facts.things else description(facts)
    return [_option("describe", answer, (answer,))]


def description(facts: ThingFacts) -> Answer:
    """What there is, what moves where, what comes and goes: one to three sentences."""
    told = facts.things[:MOST_NAMED]
    movers = tuple(
        (thing.name, thing.motion)
        for thing in told
        if facts.still_camera and thing.alone and thing.motion not in (None, "still")
    )
    passers = []
    for thing in told:
        times = [None if t is None else _whole(t) for t in (thing.appears, thing.leaves)]
        if facts.step <= _COARSE and thing.clear and any(t is not None for t in times):
            passers.append((thing.name, thing.count == 1, *times))
    return ("describe", _items(told), movers[:_MOST_TOLD], tuple(passers[:_MOST_TOLD]))


def _unknown(facts: ThingFacts, rng: Rng) -> list[Option]:
    options = [_option("unknown", _REFUSED, (_REFUSED,))]
    if facts.things:
        thing = facts.things[int(rng.integers(len(facts.things)))]
        x = ("class", thing.name)
        options.append(_option("unknown about", _REFUSED, (_REFUSED,), x=x))
        if thing.name != "person" or rng.random() < 0.3:
            options += _unknown_kind(thing, rng)
    number = str(rng.integers(len(UNKNOWN_THINGS["en"])))
    answer: Answer = ("unknown thing",)
    key, slot = _OF_UNKNOWN[int(rng.integers(len(_OF_UNKNOWN)))]
    options.append(_option(key, answer, (answer,), **{slot: ("unknown", number)}))
    return options


def _unknown_kind(thing: Thing, rng: Rng) -> list[Option]:
    """Is there a parrot? A bird is there; which it is cannot be told."""
    if not NAMES["en"][thing.name].narrower:
        return []
    return [_option("presence", _REFUSED, (_REFUSED,), any=("narrower", thing.name))]


MAKERS: dict[str, Callable[[ThingFacts, Rng], list[Option]]] = {
    "things": _things,
    "thing presence": _presence,
    "people": _people,
    "thing count": _count,
    "thing side": _side,
    "thing direction": _direction,
    "thing when": _when,
    "thing order": _order,
    "thing color": _color,
    "thing near": _near,
    "thing size": _size,
    "thing describe": _describe,
    "thing unknown": _unknown,
}
