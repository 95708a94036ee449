"""Questions with exact answers about a clip, decidable from its frames, and their scoring."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowfast_mllm.world import phrases
from slowfast_mllm.world.colors import COLORS
from slowfast_mllm.world.facts import Entity, Facts, gather
from slowfast_mllm.world.phrases import CHOICES, NOT_SEEN, ask
from slowfast_mllm.world.script import CAMERA_MOTIONS, SHAPES, Script, stream
from slowfast_mllm.world.unknown import UNKNOWN_ANSWER, sample_unknown

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

TYPES = (
    "color",
    "shape",
    "direction",
    "count",
    "order",
    "when",
    "camera",
    "cuts",
    "text",
    "fade",
    "presence",
    "describe",
    "unknown",
)
_NEGATIVE = 0.22  # chance to offer a question about something that is not there
_COARSE = 0.9  # seconds between frames beyond which times and fades cannot be told


@dataclass(frozen=True)
class QA:
    """A question, its one right answer, and all the answers such a question can have.

    For "describe" and "unknown" there is nothing to choose from but the answer itself.
    """

    type: str
    question: str
    answer: str
    choices: tuple[str, ...]


def questions(script: Script, rng: Rng | int, timestamps: Floats) -> list[QA]:
    """One or two questions of every type that the frames at ``timestamps`` (T,) can decide."""
    if not isinstance(rng, np.random.Generator):
        rng = stream(rng, "questions")
    facts = gather(script, timestamps)
    result: list[QA] = []
    for kind, make in _MAKERS.items():
        options = make(facts, rng)
        chosen = rng.permutation(len(options))[: int(rng.integers(1, 3))]
        result.extend(QA(kind, *options[i]) for i in chosen)
    return result


Option = tuple[str, str, tuple[str, ...]]


def _refer(facts: Facts, entity: Entity, rng: Rng, *kinds: str) -> str | None:
    """A random unambiguous reference of the allowed kinds, or None."""
    known = facts.references(entity)
    usable = [known[k] for k in kinds if k in known]
    return str(rng.choice(usable)) if usable else None


def _name(facts: Facts, entity: Entity, rng: Rng) -> str:
    """A random unambiguous reference by colour, by shape, or by both."""
    known = facts.references(entity)
    short = [known[k] for k in ("shape", "color") if k in known]
    return str(rng.choice(short)) if short and rng.random() < 0.5 else known["both"]


def _absent(facts: Facts, rng: Rng, among: str) -> str:
    """A reference, by "shape", "color" or "both", to something that is not in the clip."""
    if among == "shape":
        return "the " + str(rng.choice([s for s in SHAPES if s not in facts.shapes]))
    if among == "color":
        return f"the {rng.choice([c for c in COLORS if c not in facts.colors])} object"
    free = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in facts.pairs]
    near = [(c, s) for c, s in free if c in facts.colors or s in facts.shapes]
    color, shape = near[int(rng.integers(len(near)))] if near else free[0]
    return f"the {color} {shape}"


def _negative(facts: Facts, rng: Rng, kind: str, among: str) -> list[Option]:
    if rng.random() >= _NEGATIVE or not facts.entities:
        return []
    return [(ask(kind, rng, x=_absent(facts, rng, among)), NOT_SEEN, CHOICES[kind])]


def _color(facts: Facts, rng: Rng) -> list[Option]:
    options = _negative(facts, rng, "color", "shape")
    for entity in facts.entities:
        x = _refer(facts, entity, rng, "shape", "motion", "only")
        if len(entity.colors) > 1:
            x = x or "the object that changes color"
            last = bool(rng.random() < 0.6)
            text = ask("color last" if last else "color first", rng, x=x)
            color = entity.colors[-1 if last else 0]
            options.append((text, phrases.color_answer(color), CHOICES["color"]))
        elif x is not None:
            answer = phrases.color_answer(entity.colors[0])
            options.append((ask("color", rng, x=x), answer, CHOICES["color"]))
    return options


def _shape(facts: Facts, rng: Rng) -> list[Option]:
    options = _negative(facts, rng, "shape", "color")
    for entity in facts.entities:
        x = _refer(facts, entity, rng, "color", "color", "motion", "only")
        if x is not None:
            answer = phrases.shape_answer(entity.object.shape)
            options.append((ask("shape", rng, x=x), answer, CHOICES["shape"]))
    return options


def _direction(facts: Facts, rng: Rng) -> list[Option]:
    if facts.script.camera.motion != "still":
        return []
    among = str(rng.choice(["shape", "color", "both"]))
    options = _negative(facts, rng, "direction", among)
    for entity in facts.entities:
        x = _name(facts, entity, rng)
        # Motion is the harder thing to see, so resting objects are asked about less often.
        if not entity.moves_seen or (entity.object.motion == "still" and rng.random() < 0.35):
            continue
        answer = phrases.DIRECTION_ANSWERS[entity.object.motion]
        options.append((ask("direction", rng, x=x), answer, CHOICES["direction"]))
    return options


def _count(facts: Facts, rng: Rng) -> list[Option]:
    if not facts.entities:
        return []
    total = phrases.count_answer(len(facts.entities))
    options = [(ask("count", rng), total, CHOICES["count"])]
    entity = facts.entities[int(rng.integers(len(facts.entities)))]
    by_shape = bool(rng.random() < 0.5)
    shape, color = entity.object.shape, entity.colors[0]
    if by_shape:
        same = sum(e.object.shape == shape for e in facts.entities)
    else:
        same = sum(color in e.colors for e in facts.entities)
    if same > 1 or rng.random() < 0.12:
        x = shape if by_shape else f"{color} object"
        text = ask("count some", rng, x=x).replace("crosss", "crosses")
        options.append((text, phrases.count_answer(same), CHOICES["count"]))
    return options


def _order(facts: Facts, rng: Rng) -> list[Option]:
    entities = facts.entities
    times = [e.object.appear for e in entities]
    names = [f"The {e.name}." for e in entities]
    options: list[Option] = []
    pairs = [(i, j) for i in range(len(times)) for j in range(i) if times[i] - times[j] > 0.5]
    if not pairs or facts.longest_gap > _COARSE:
        return []
    late, early = pairs[int(rng.integers(len(pairs)))]
    first, second = (late, early) if rng.random() < 0.5 else (early, late)
    refs = [_name(facts, entities[k], rng) for k in (first, second)]
    for key, answer in (("order", names[early]), ("order later", names[late])):
        choices = (names[first], names[second])
        options.append((ask(key, rng, a=refs[0], b=refs[1]), answer, choices))
    options.append((ask("order last", rng), names[-1], tuple(names)))
    index = int(rng.integers(len(times) - 1))
    if times[index + 1] - times[index] > 0.5:
        x = _name(facts, entities[index], rng)
        options.append((ask("order after", rng, x=x), names[index + 1], tuple(names)))
    return options


def _when(facts: Facts, rng: Rng) -> list[Option]:
    script = facts.script
    if facts.longest_gap > _COARSE:
        return []
    among = str(rng.choice(["shape", "color", "both"]))
    options = _negative(facts, rng, "when", among)
    for entity in facts.entities:
        x = _name(facts, entity, rng)
        appear = entity.object.appear
        if appear > 0:
            answer = phrases.when_answer(appear)
        elif rng.random() < 0.3:
            answer = phrases.AT_START
        else:
            continue
        options.append((ask("when", rng, x=x), answer, CHOICES["when"]))
    if script.flash is not None and facts.state.flash.any():
        answer = phrases.when_answer(script.flash.time)
        options.append((ask("when text", rng), answer, CHOICES["when"]))
    if len(script.cuts) == 1 and min(facts.lit_per_shot) > 0:
        answer = phrases.when_answer(script.cuts[0])
        options.append((ask("when cut", rng), answer, CHOICES["when"]))
    return options


def _camera(facts: Facts, rng: Rng) -> list[Option]:
    if max(facts.lit_per_shot) < 2:
        return []
    answer = phrases.camera_answer(facts.script.camera.motion)
    return [(ask("camera", rng), answer, CHOICES["camera"])]


def _cuts(facts: Facts, rng: Rng) -> list[Option]:
    if min(facts.lit_per_shot) == 0:
        return []
    return [(ask("cuts", rng), phrases.CUT_ANSWERS[len(facts.script.cuts)], CHOICES["cuts"])]


def _text(facts: Facts, rng: Rng) -> list[Option]:
    flash = facts.script.flash
    if flash is None:
        return [(ask("text", rng), phrases.NO_TEXT, CHOICES["text"])]
    if not facts.state.flash.any():
        return []
    return [(ask("text", rng), phrases.text_answer(flash.glyph), CHOICES["text"])]


def _fade(facts: Facts, rng: Rng) -> list[Option]:
    kind = facts.script.fade.kind
    if facts.longest_gap > _COARSE:
        return []
    # Most clips do not fade; asking all of them would make one answer right nearly always.
    skip = rng.random() < 0.6 if kind == "none" else facts.state.gain.min() > 0.7
    return [] if skip else [(ask("fade", rng), phrases.FADE_ANSWERS[kind], CHOICES["fade"])]


def _presence(facts: Facts, rng: Rng) -> list[Option]:
    options: list[Option] = []
    if not facts.entities:
        return options
    for _ in range(2):
        form = str(rng.choice(["shape", "color", "both", "both"]))
        there = bool(rng.random() < 0.5)
        if there:
            entity = facts.entities[int(rng.integers(len(facts.entities)))]
            color = str(rng.choice(entity.colors))
            full = {"shape": entity.object.shape, "color": f"{color} object"}
            x = full.get(form, f"{color} {entity.object.shape}")
        else:
            x = _absent(facts, rng, form).removeprefix("the ")
        article = "an" if x[0] in "aeiou" else "a"
        text = ask("presence", rng, x=f"{article} {x}")
        options.append((text, "Yes." if there else "No.", CHOICES["presence"]))
    return options


def _describe(facts: Facts, rng: Rng) -> list[Option]:
    if not all(e.moves_seen for e in facts.entities) or not facts.entities:
        return []
    parts = []
    for entity in facts.entities:
        article = "an" if entity.name[0] in "aeiou" else "a"
        turns = f" that turns {entity.colors[-1]}" if len(entity.colors) > 1 else ""
        parts.append(f"{article} {entity.name}{turns} {phrases.MOVES[entity.object.motion]}")
    text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    motion = facts.script.camera.motion
    if motion != "still":
        text += f" while the camera {phrases.CAMERA_MOVES[motion]}"
    answer = f"{text[0].upper()}{text[1:]}."
    return [(ask("describe", rng), answer, (answer,))]


def _unknown(facts: Facts, rng: Rng) -> list[Option]:
    texts = [phrases.careless(sample_unknown(rng), rng) for _ in range(2)]
    return [(text, UNKNOWN_ANSWER, (UNKNOWN_ANSWER,)) for text in dict.fromkeys(texts)]


_MAKERS: dict[str, Callable[[Facts, Rng], list[Option]]] = {
    "color": _color,
    "shape": _shape,
    "direction": _direction,
    "count": _count,
    "order": _order,
    "when": _when,
    "camera": _camera,
    "cuts": _cuts,
    "text": _text,
    "fade": _fade,
    "presence": _presence,
    "describe": _describe,
    "unknown": _unknown,
}


def normalise(text: str) -> str:
    """Lower case words separated by single spaces, without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def described(text: str) -> tuple[frozenset[tuple[str, str]], str]:
    """The (colour, shape) pairs that a sentence mentions, and the camera motion it tells."""
    plain = normalise(text).replace(" to the ", " ")
    pairs = re.findall(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b", plain)
    moves = re.search(r"camera (pan|tilt|zoom)s (left|right|up|down|in|out)\b", plain)
    motion = f"{moves[1]} {moves[2]}" if moves else "still"
    return frozenset(pairs), motion if motion in CAMERA_MOTIONS else "other"


def score(qa: QA, text: str) -> bool:
    """Whether ``text`` answers ``qa``: seconds may be one off, a description may be worded
    freely as long as it names the same objects and camera motion, all else is matched exactly
    but for case, punctuation and spaces.
    """
    given, right = normalise(text), normalise(qa.answer)
    if qa.type == "describe":
        return described(text) == described(qa.answer)
    if qa.type == "when":
        told = [re.fullmatch(r"at (\d+) seconds?", s) for s in (given, right)]
        if told[0] and told[1]:
            return abs(int(told[0][1]) - int(told[1][1])) <= 1
    return given == right
