"""What can be asked about a clip: from its facts, by type of question, before any words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.facts import Entity, Facts
from slowfast_mini.world.language import Answer, Reference
from slowfast_mini.world.script import (
    CAMERA_MOTIONS,
    FADES,
    GLYPHS,
    MOST_CUTS,
    OBJECT_MOTIONS,
    SHAPES,
)

Rng = np.random.Generator

_NEGATIVE = 0.22  # chance to offer a question about something that is not there
_COARSE = 0.9  # seconds between frames beyond which times and fades cannot be told
_SPEEDS_APART = 1.6  # times faster, so that it can be seen

NOT_SEEN: Answer = ("not seen",)
CHOICES: dict[str, tuple[Answer, ...]] = {
    "color": (*(("color", c) for c in COLORS), NOT_SEEN),
    "shape": (*(("shape", s) for s in SHAPES), NOT_SEEN),
    "direction": (*(("direction", m) for m in OBJECT_MOTIONS), NOT_SEEN),
    "count": tuple(("count", n) for n in range(1, 5)),
    "when": (("start",), *(("when", n) for n in range(1, 13)), NOT_SEEN),
    "duration": (*(("duration", n) for n in range(1, 13)), NOT_SEEN),
    "repeat": tuple(("jumps", n) for n in range(5)),
    "camera": tuple(("camera", m) for m in CAMERA_MOTIONS),
    "cuts": tuple(("cuts", n) for n in range(MOST_CUTS + 1)),
    "text": (*(("text", g) for g in GLYPHS), ("no text",)),
    "fade": tuple(("fade", kind) for kind in FADES),
    "yes or no": (("yes",), ("no",)),
}


@dataclass(frozen=True)
class Option:
    """A question that could be asked: the key of its wordings, what they mention, the answers."""

    key: str
    answer: Answer
    choices: tuple[Answer, ...]
    mentions: dict[str, Reference]
    seconds: float | None = None


def _option(key: str, answer: Answer, choices: tuple[Answer, ...], **mentions: Reference) -> Option:
    return Option(key, answer, choices, mentions)


def _refer(facts: Facts, entity: Entity, rng: Rng, *kinds: str) -> Reference | None:
    """A random unambiguous reference of the allowed kinds, or None."""
    known = facts.references(entity)
    usable = [known[k] for k in kinds if k in known]
    return usable[int(rng.integers(len(usable)))] if usable else None


def _name(facts: Facts, entity: Entity, rng: Rng) -> Reference:
    """A random unambiguous reference by colour, by shape, or by both."""
    known = facts.references(entity)
    short = [known[k] for k in ("shape", "color") if k in known]
    if short and rng.random() < 0.5:
        return short[int(rng.integers(len(short)))]
    return known["both"]


def _absent(facts: Facts, rng: Rng, among: str) -> Reference:
    """A reference, by "shape", "color" or "both", to something that is not in the clip."""
    shapes = [s for s in SHAPES if not (facts.plate and s == "square")]
    colors = [c for c in COLORS if not (facts.plate and c in ("white", "black"))]
    unseen = [c for c in colors if c not in facts.colors]
    if among == "shape":
        return "shape", str(rng.choice([s for s in shapes if s not in facts.shapes]))
    if among == "color" and unseen:  # rarely a clip has all colors
        return "color", str(rng.choice(unseen))
    free = [(c, s) for c in COLORS for s in shapes if (c, s) not in facts.pairs]
    near = [(c, s) for c, s in free if c in facts.colors or s in facts.shapes]
    return "both", *(near[int(rng.integers(len(near)))] if near else free[0])


def _negative(facts: Facts, rng: Rng, kind: str, *among: str) -> list[Option]:
    if rng.random() >= _NEGATIVE or not facts.entities:
        return []
    absent = _absent(facts, rng, str(rng.choice(among)))
    return [_option(kind, NOT_SEEN, CHOICES[kind], x=absent)]


def _color(facts: Facts, rng: Rng) -> list[Option]:
    options = _negative(facts, rng, "color", "shape")
    for entity in facts.entities:
        x = _refer(facts, entity, rng, "shape", "motion", "only")
        if len(entity.colors) > 1:
            last = bool(rng.random() < 0.6)
            answer = ("color", entity.colors[-1 if last else 0])
            key = "color last" if last else "color first"
            options.append(_option(key, answer, CHOICES["color"], x=x or ("changing",)))
        elif x is not None:
            options.append(_option("color", ("color", entity.colors[0]), CHOICES["color"], x=x))
    return options


def _shape(facts: Facts, rng: Rng) -> list[Option]:
    options = _negative(facts, rng, "shape", "color")
    for entity in facts.entities:
        x = _refer(facts, entity, rng, "color", "color", "motion", "only")
        if x is not None:
            answer = ("shape", entity.object.shape)
            options.append(_option("shape", answer, CHOICES["shape"], x=x))
    return options


def _direction(facts: Facts, rng: Rng) -> list[Option]:
    if facts.script.camera.motion != "still":
        return []
    options = _negative(facts, rng, "direction", "shape", "color", "both")
    for entity in facts.entities:
        x = _name(facts, entity, rng)
        motion = entity.object.motion
        # Motion is the harder thing to see, so resting objects are asked about less often.
        if not entity.moves_seen or (motion == "still" and rng.random() < 0.5):
            continue
        if not entity.object.hops:
            options.append(_option("direction", ("direction", motion), CHOICES["direction"], x=x))
    return options


def _speed(facts: Facts, rng: Rng) -> list[Option]:
    if facts.script.camera.motion != "still":
        return []
    moving = [e for e in facts.entities if e.moves_seen and e.object.speed > 0]
    options = []
    for i, a in enumerate(moving):
        for b in moving[:i]:
            slow, fast = sorted((a, b), key=lambda e: e.object.speed)
            if fast.object.speed < _SPEEDS_APART * slow.object.speed or slow.object.slides_in:
                continue  # what slides in is fast at first
            pair = (a, b) if rng.random() < 0.5 else (b, a)
            names = tuple(_said(e) for e in pair)
            refs = {"a": _name(facts, pair[0], rng), "b": _name(facts, pair[1], rng)}
            options.append(_option("speed", _said(fast), names, **refs))
            options.append(_option("speed slower", _said(slow), names, **refs))
    return options


def _said(entity: Entity) -> Answer:
    return "object", entity.colors[0], entity.object.shape


def _count(facts: Facts, rng: Rng) -> list[Option]:
    if not facts.entities or facts.script.needle is not None:
        return []  # whether what an inserted picture shows is to be counted is anyone's guess
    options = [_option("count", ("count", len(facts.entities)), CHOICES["count"])]
    entity = facts.entities[int(rng.integers(len(facts.entities)))]
    shape, color = entity.object.shape, entity.colors[0]
    by_shape = bool(rng.random() < 0.5) and not (facts.plate and shape == "square")
    if by_shape:
        same = sum(e.object.shape == shape for e in facts.entities)
    else:
        same = sum(color in e.colors for e in facts.entities)
    if same > 1 or rng.random() < 0.12:
        kind: Reference = ("all shape", shape) if by_shape else ("all color", color)
        options.append(_option("count some", ("count", same), CHOICES["count"], plural=kind))
    return options


def _order(facts: Facts, rng: Rng) -> list[Option]:
    if facts.longest_gap > _COARSE:
        return []
    options = _order_of_happenings(facts, rng)
    entities = facts.entities
    times = [e.object.appear for e in entities]
    names = tuple(_said(e) for e in entities)
    pairs = [(i, j) for i in range(len(times)) for j in range(i) if times[i] - times[j] > 0.5]
    if not pairs:
        return options
    late, early = pairs[int(rng.integers(len(pairs)))]
    first, second = (late, early) if rng.random() < 0.5 else (early, late)
    refs = {"a": _name(facts, entities[first], rng), "b": _name(facts, entities[second], rng)}
    choices = (names[first], names[second])
    options.append(_option("order", names[early], choices, **refs))
    options.append(_option("order later", names[late], choices, **refs))
    if facts.script.needle is not None:
        return options  # which would come last, or next
    options.append(_option("order last", names[-1], names))
    index = int(rng.integers(len(times) - 1))
    if times[index + 1] - times[index] > 0.5:
        x = _name(facts, entities[index], rng)
        options.append(_option("order after", names[index + 1], names, x=x))
    return options


def _order_of_happenings(facts: Facts, rng: Rng) -> list[Option]:
    happened = sorted(facts.happenings.items(), key=lambda item: item[1])
    pairs = [
        (early, late)
        for i, (late, t) in enumerate(happened)
        for early, before in happened[:i]
        if t - before > 0.6
    ]
    if not pairs:
        return []
    early, late = pairs[int(rng.integers(len(pairs)))]
    a, b = (early, late) if rng.random() < 0.5 else (late, early)
    choices = (("happening", a), ("happening", b))
    return [_option("order events", ("happening", early), choices, a=(a,), b=(b,))]


def _when(facts: Facts, rng: Rng) -> list[Option]:
    if facts.longest_gap > _COARSE:
        return []
    options = _negative(facts, rng, "when", "shape", "color", "both")

    def add(key: str, seconds: float, **mentions: Reference) -> None:
        answer = ("when", _whole(seconds))
        options.append(Option(key, answer, CHOICES["when"], mentions, seconds))

    for entity in facts.entities:
        obj, x = entity.object, _name(facts, entity, rng)
        if obj.appear > 0:
            add("when", obj.appear, x=x)
        elif rng.random() < 0.2:
            options.append(_option("when", ("start",), CHOICES["when"], x=x))
        if obj.disappear < facts.last_lit:
            add("when gone", obj.disappear, x=x)
        if len(entity.colors) > 1 and obj.change is not None:
            add("when change", obj.change.time, x=x)
    for kind, key in (("text", "when text"), ("picture", "when picture"), ("cut", "when cut")):
        if kind in facts.happenings:
            add(key, facts.happenings[kind])
    return options


def _whole(seconds: float) -> int:
    """Half rounded up."""
    return int(np.floor(seconds + 0.5))


def _duration(facts: Facts, rng: Rng) -> list[Option]:
    if facts.longest_gap > _COARSE:
        return []
    options = _negative(facts, rng, "duration", "shape", "color", "both")
    for entity in facts.entities:
        obj = entity.object
        if obj.appear > 0 or obj.disappear < facts.last_lit:
            seconds = obj.disappear - obj.appear
            answer, x = ("duration", _whole(seconds)), {"x": _name(facts, entity, rng)}
            options.append(Option("duration", answer, CHOICES["duration"], x, seconds))
    return options


def _repeat(facts: Facts, rng: Rng) -> list[Option]:
    options = []
    for entity in facts.entities:
        hops = len(entity.object.hops)
        if entity.hops_seen if hops else rng.random() < 0.12:
            x = _name(facts, entity, rng)
            options.append(_option("repeat", ("jumps", hops), CHOICES["repeat"], x=x))
    return options


def _change(facts: Facts, rng: Rng) -> list[Option]:
    if not facts.entities:
        return []
    none: Answer = ("no change",)
    changing = [entity for entity in facts.entities if len(entity.colors) > 1]
    if not changing and rng.random() < 0.75:
        return []  # most clips have no change
    one = changing[0] if changing else facts.entities[int(rng.integers(len(facts.entities)))]
    others = [entity for entity in facts.entities if entity is not one]
    other = others[int(rng.integers(len(others)))] if others else one
    taken = {color for entity in facts.entities for color in entity.colors}
    first, second, third = rng.permutation([c for c in COLORS if c not in taken])[:3].tolist()
    new = one.colors[-1] if changing else first
    looks = [(entity.colors[0], entity.object.shape) for entity in (one, other)]
    # Which of the three that are offered beside "none" is right cannot be told from them.
    ends = [(looks[0], second), (looks[1], new), (looks[1], second)]
    if other is one:
        ends = [(looks[0], second), (looks[0], third)]
    chosen = [ends[int(i)] for i in rng.permutation(len(ends))[:2]]
    told: list[Answer] = [("change", *look, color) for look, color in [(looks[0], new), *chosen]]
    return [_option("change", told[0] if changing else none, (*told, none))]


def _camera(facts: Facts, rng: Rng) -> list[Option]:
    if max(facts.lit_per_shot) < 2:
        return []
    return [_option("camera", ("camera", facts.script.camera.motion), CHOICES["camera"])]


def _cuts(facts: Facts, rng: Rng) -> list[Option]:
    if min(facts.lit_per_shot) == 0 or facts.script.needle is not None:
        return []  # some would count an inserted picture
    if not facts.script.cuts and rng.random() < 0.3:
        return []  # most clips have none
    return [_option("cuts", ("cuts", len(facts.script.cuts)), CHOICES["cuts"])]


def _text(facts: Facts, rng: Rng) -> list[Option]:
    flash = facts.script.flash
    if flash is None:
        return [] if rng.random() < 0.3 else [_option("text", ("no text",), CHOICES["text"])]
    if not facts.state.flash.any():
        return []
    return [_option("text", ("text", flash.glyph), CHOICES["text"])]


def _needle(facts: Facts, rng: Rng) -> list[Option]:
    needle = facts.script.needle
    none: Answer = ("no picture",)
    if needle is not None and not facts.state.needle.any():
        return []
    if needle is None and rng.random() < 0.75:
        return []
    color = needle.color if needle else str(rng.choice(COLORS))
    shape = needle.shape if needle else str(rng.choice(SHAPES))
    other_color = str(rng.choice([c for c in COLORS if c != color]))
    other_shape = str(rng.choice([s for s in SHAPES if s != shape]))
    # Which of the three that are offered beside "none" is right cannot be told from them.
    near = [(color, other_shape), (other_color, shape), (other_color, other_shape)]
    chosen = [near[int(i)] for i in rng.permutation(3)[:2]]
    told: list[Answer] = [("picture", *look) for look in [(color, shape), *chosen]]
    return [_option("needle", told[0] if needle else none, (*told, none))]


def _fade(facts: Facts, rng: Rng) -> list[Option]:
    kind = facts.script.fade.kind
    if facts.longest_gap > _COARSE:
        return []
    # Most clips do not fade; asking all of them would make one answer right nearly always.
    skip = rng.random() < 0.6 if kind == "none" else facts.state.gain.min() > 0.7
    return [] if skip else [_option("fade", ("fade", kind), CHOICES["fade"])]


def _presence(facts: Facts, rng: Rng) -> list[Option]:
    options: list[Option] = []
    if not facts.entities:
        return options
    for _ in range(2):
        form = str(rng.choice(["shape", "color", "both", "both"]))
        there = bool(rng.random() < 0.5)
        if there:
            entity = facts.entities[int(rng.integers(len(facts.entities)))]
            shape, color = entity.object.shape, str(rng.choice(entity.colors))
            by = {"shape": ("shape", shape), "color": ("color", color)}
            thing: Reference = by.get(form, ("both", color, shape))
        else:
            thing = _absent(facts, rng, form)
        answer = ("yes",) if there else ("no",)
        options.append(_option("presence", answer, CHOICES["yes or no"], any=thing))
    return options


def _events(facts: Facts, rng: Rng) -> list[Option]:
    """Whether anything happens, moves, comes or goes; plain cases only."""
    script, options = facts.script, []
    objects = [entity.object for entity in facts.entities]
    if not objects or facts.longest_gap > _COARSE:
        return []
    happens: tuple[Answer, ...] = (("yes",), ("nothing",))
    if facts.quiet:
        options.append(_option("happens", ("nothing",), happens))
    elif rng.random() < 0.035 and any(o.appear > 0 or o.hops for o in objects):
        options.append(_option("happens", ("yes",), happens))

    def add(key: str, yes: bool, no: bool, share_asked: float) -> None:
        if (yes or no) and rng.random() < share_asked:
            options.append(_option(key, ("yes",) if yes else ("no",), CHOICES["yes or no"]))

    if script.camera.rests and not script.cuts:
        seen = any((e.object.speed > 0 and e.moves_seen) or e.jumps for e in facts.entities)
        rests = not any(o.speed > 0 or o.hops for o in objects) and not script.distractors
        add("moves", seen, rests, 0.7 if seen else 1.0)
        # A flash comes and goes too, and a cut or a pan brings in something: no plain "No" there.
        same = not (script.distractors or script.flash or script.needle)
        comes = any(o.appear > 0 for o in objects)
        goes = any(o.disappear < facts.last_lit for o in objects)
        add("enters", comes, same and not comes, 0.35 if comes else 1.0)
        add("leaves", goes, same and not goes, 0.6)
    return options


def _describe(facts: Facts, rng: Rng) -> list[Option]:
    if not all(e.moves_seen for e in facts.entities) or not facts.entities:
        return []
    parts = [(e.colors, e.object.shape, e.object.motion, e.jumps) for e in facts.entities]
    answer = ("describe", facts.script.camera.motion, *parts)
    return [_option("describe", answer, (answer,))]


def _unknown(facts: Facts, rng: Rng) -> list[Option]:
    return [_option("unknown", ("unknown",), (("unknown",),))] * 2


MAKERS: dict[str, Callable[[Facts, Rng], list[Option]]] = {
    "color": _color,
    "shape": _shape,
    "direction": _direction,
    "speed": _speed,
    "count": _count,
    "order": _order,
    "when": _when,
    "duration": _duration,
    "repeat": _repeat,
    "change": _change,
    "camera": _camera,
    "cuts": _cuts,
    "text": _text,
    "needle": _needle,
    "fade": _fade,
    "presence": _presence,
    "events": _events,
    "describe": _describe,
    "unknown": _unknown,
}
