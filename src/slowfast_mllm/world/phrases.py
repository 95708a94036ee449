"""The wording of the questions and answers about this world."""

from __future__ import annotations

import numpy as np

from slowfast_mllm.world.colors import COLORS
from slowfast_mllm.world.script import CAMERA_MOTIONS, GLYPHS, OBJECT_MOTIONS, SHAPES

NOT_SEEN = "I do not see one."
NO_TEXT = "No text is shown."
AT_START = "At the start."

MOVES = {
    "still": "stays still",
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
}
CAMERA_MOVES = {
    "still": "stays still",
    "pan left": "pans to the left",
    "pan right": "pans to the right",
    "tilt up": "tilts up",
    "tilt down": "tilts down",
    "zoom in": "zooms in",
    "zoom out": "zooms out",
}
DIRECTION_ANSWERS = {
    "still": "It stays still.",
    "left": "To the left.",
    "right": "To the right.",
    "up": "Up.",
    "down": "Down.",
}
FADE_ANSWERS = {
    "none": "It does not fade.",
    "in": "It fades in from black.",
    "out": "It fades out to black.",
}
CUT_ANSWERS = ("There are no cuts.", "There is 1 cut.", "There are 2 cuts.")


def color_answer(color: str) -> str:
    """For example "Red."."""
    return f"{color.capitalize()}."


def shape_answer(shape: str) -> str:
    """For example "A star."."""
    return f"A {shape}."


def camera_answer(motion: str) -> str:
    """For example "It pans to the left."."""
    return f"It {CAMERA_MOVES[motion]}."


def count_answer(count: int) -> str:
    """For example "2."."""
    return f"{count}."


def text_answer(glyph: str) -> str:
    """For example "It says 7."."""
    return f"It says {glyph}."


def when_answer(seconds: float) -> str:
    """Whole seconds, half rounded up; for example "At 4 seconds."."""
    whole = int(np.floor(seconds + 0.5))
    return "At 1 second." if whole == 1 else f"At {whole} seconds."


CHOICES: dict[str, tuple[str, ...]] = {
    "color": (*(color_answer(c) for c in COLORS), NOT_SEEN),
    "shape": (*(shape_answer(s) for s in SHAPES), NOT_SEEN),
    "direction": (*(DIRECTION_ANSWERS[m] for m in OBJECT_MOTIONS), NOT_SEEN),
    "count": tuple(count_answer(n) for n in range(1, 5)),
    "when": (AT_START, *(when_answer(n) for n in range(1, 13)), NOT_SEEN),
    "camera": tuple(camera_answer(m) for m in CAMERA_MOTIONS),
    "cuts": CUT_ANSWERS,
    "text": (*(text_answer(g) for g in GLYPHS), NO_TEXT),
    "fade": tuple(FADE_ANSWERS.values()),
    "presence": ("Yes.", "No."),
}

# {x} is a reference such as "the red circle"; {a}, {b} are two of them.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "color": (
        "What color is {x}?",
        "What colour is {x}?",
        "Which color does {x} have?",
        "Which colour does {x} have?",
        "What is the color of {x}?",
        "Tell me the color of {x}.",
        "{x}: what color is it?",
    ),
    "color first": (
        "What color is {x} at first?",
        "What colour does {x} have at the beginning?",
        "What color is {x} before it changes?",
        "Which color does {x} start with?",
    ),
    "color last": (
        "What color does {x} change to?",
        "What colour does {x} turn into?",
        "What color is {x} at the end?",
        "Which color does {x} have after the change?",
    ),
    "shape": (
        "What shape is {x}?",
        "What is the shape of {x}?",
        "Which shape does {x} have?",
        "What kind of shape is {x}?",
        "Tell me the shape of {x}.",
        "What shape does {x} have?",
    ),
    "direction": (
        "Which way does {x} move?",
        "In which direction does {x} move?",
        "Where does {x} go?",
        "What direction is {x} moving?",
        "How does {x} move?",
        "Where is {x} moving to?",
        "Does {x} move, and which way?",
    ),
    "count": (
        "How many objects are there?",
        "How many objects appear in the video?",
        "How many different objects are shown in total?",
        "Count the objects in the video.",
        "How many things appear in the whole clip?",
        "What is the number of objects in the video?",
    ),
    "count some": (
        "How many {x}s are there?",
        "How many {x}s appear in the video?",
        "Count the {x}s.",
        "How many {x}s can you see in total?",
    ),
    "order": (
        "Which comes first, {a} or {b}?",
        "What appears first, {a} or {b}?",
        "Which one appears earlier, {a} or {b}?",
        "Does {a} or {b} come first?",
        "Which is seen first: {a} or {b}?",
    ),
    "order later": (
        "Which comes later, {a} or {b}?",
        "What appears last, {a} or {b}?",
        "Which one shows up second, {a} or {b}?",
        "Does {a} or {b} come later?",
    ),
    "order last": (
        "What appears last?",
        "Which object appears last?",
        "What is the last object to appear?",
        "Which object comes last?",
    ),
    "order after": (
        "What appears after {x}?",
        "What comes right after {x}?",
        "Which object appears next after {x}?",
        "What is the next object to appear after {x}?",
    ),
    "when": (
        "When does {x} appear?",
        "At what time does {x} appear?",
        "When do you first see {x}?",
        "When does {x} come into view?",
        "At which second does {x} show up?",
        "When is {x} first visible?",
    ),
    "when text": (
        "When does the text appear?",
        "When is the text shown?",
        "At what time does a letter or number flash?",
        "When does the character flash on the screen?",
    ),
    "when cut": (
        "When is the cut?",
        "When does the scene change?",
        "At what time is there a cut?",
        "At which second does the scene cut?",
    ),
    "camera": (
        "How does the camera move?",
        "What does the camera do?",
        "Which way does the camera move?",
        "Is the camera moving?",
        "What is the camera motion?",
        "Describe the camera movement.",
    ),
    "cuts": (
        "How many cuts are there?",
        "How many times does the scene change?",
        "Is there a cut in the video?",
        "Are there any cuts?",
        "Count the scene cuts.",
        "How many scene changes are in the video?",
    ),
    "text": (
        "What text is shown?",
        "What does the text say?",
        "Which letter or number flashes?",
        "What character is shown on the screen?",
        "Is there any text in the video?",
        "What is written in the video?",
        "Which letter or digit can be read?",
    ),
    "fade": (
        "Does the video fade?",
        "Is there a fade?",
        "Does the video fade in or out?",
        "Is there a fade to or from black?",
        "How does the video fade?",
        "Does it fade in from black or out to black?",
    ),
    "presence": (
        "Is there {x}?",
        "Is there {x} in the video?",
        "Do you see {x}?",
        "Can you see {x} anywhere?",
        "Does {x} appear?",
        "Does the video show {x}?",
    ),
    "describe": (
        "Describe the video.",
        "What happens in the video?",
        "What is happening?",
        "What do you see?",
        "Describe what you see in one sentence.",
        "What is the video about?",
        "Give me a short description.",
        "Summarize the clip.",
    ),
}


def ask(key: str, rng: np.random.Generator, **references: str) -> str:
    """A random wording of the question ``key``, sometimes typed carelessly."""
    template = str(rng.choice(TEMPLATES[key]))
    text = template.format(**references)
    return careless(text[0].upper() + text[1:], rng)


def careless(question: str, rng: np.random.Generator) -> str:
    """Now and then lower case or without the final mark, as people type."""
    if rng.random() < 0.15:
        question = question[0].lower() + question[1:]
    if rng.random() < 0.15:
        question = question.rstrip("?.")
    return question
