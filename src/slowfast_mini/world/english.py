"""The wording of the questions and answers about this world in English."""

from __future__ import annotations

from collections.abc import Callable

from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.language import Language, Reference
from slowfast_mini.world.wording_files import FOLDER, read_wordings

_MOVES = {
    "still": "stays still",
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
}
_CAMERA_MOVES = {
    "still": "stays still",
    "pan left": "pans to the left",
    "pan right": "pans to the right",
    "tilt up": "tilts up",
    "tilt down": "tilts down",
    "zoom in": "zooms in",
    "zoom out": "zooms out",
    "roll clockwise": "rolls clockwise",
    "roll counterclockwise": "rolls counterclockwise",
}
_DIRECTIONS = {
    "still": "It stays still",
    "left": "To the left",
    "right": "To the right",
    "up": "Up",
    "down": "Down",
}
_FADES = {
    "none": "It does not fade",
    "in": "It fades in from black",
    "out": "It fades out to black",
}
_HAPPENINGS = {
    "text": "the text",
    "picture": "the inserted picture",
    "cut": "the cut",
    "change": "the change of color",
}


def _indefinite(reference: Reference) -> str:
    """For example "a red star"; a plural where all of a shape or colour are meant."""
    kind, *values = reference
    if kind == "all shape":
        return "crosses" if values[0] == "cross" else f"{values[0]}s"
    if kind == "all color":
        return f"{values[0]} objects"
    return _article(f"{values[0]} object" if kind == "color" else " ".join(values))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _definite(reference: Reference) -> str:
    """For example "the red star" or "the object that moves up"."""
    kind, *values = reference
    if kind == "motion":
        return f"the object that {_MOVES[values[0]]}"
    if kind == "changing":
        return "the object that changes color"
    return " ".join(["the", *values] if kind in ("shape", "both") else ["the", *values, "object"])


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"


def _cuts(count: int) -> str:
    return {0: "There are no cuts", 1: "There is 1 cut"}.get(count, f"There are {count} cuts")


def _jumps(count: int) -> str:
    return ("It does not jump", "Once", "Twice")[count] if count < 3 else f"{count} times"


def _describe(camera: str, *objects: tuple[tuple[str, ...], str, str, bool]) -> str:
    """``objects`` are colours, shape, motion, and whether it jumps."""
    parts = []
    for colors, shape, motion, jumps in objects:
        turns = f" that turns {colors[-1]}" if len(colors) > 1 else ""
        does = "jumps" if jumps else _MOVES[motion]
        parts.append(f"{_article(f'{colors[0]} {shape}')}{turns} {does}")
    text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    if camera != "still":
        text += f" while the camera {_CAMERA_MOVES[camera]}"
    return text[0].upper() + text[1:]


_SENTENCES: dict[str, Callable[..., str]] = {
    "color": lambda color: color.capitalize(),
    "shape": lambda shape: f"A {shape}",
    "direction": lambda motion: _DIRECTIONS[motion],
    "count": str,
    "object": lambda color, shape: f"The {color} {shape}",
    "picture": lambda color, shape: _article(f"{color} {shape}").capitalize(),
    "happening": lambda kind: _HAPPENINGS[kind].capitalize(),
    "start": lambda: "At the start",
    "when": lambda whole: f"At {_seconds(whole)}",
    "duration": lambda whole: f"For {_seconds(whole)}",
    "jumps": _jumps,
    "change": lambda color, shape, new: f"The {color} {shape} turns {new}",
    "no change": lambda: "No object changes its color",
    "no picture": lambda: "No other picture is shown",
    "camera": lambda motion: f"It {_CAMERA_MOVES[motion]}",
    "cuts": _cuts,
    "text": lambda glyph: f"It says {glyph}",
    "no text": lambda: "No text is shown",
    "fade": lambda kind: _FADES[kind],
    "yes": lambda: "Yes",
    "no": lambda: "No",
    "nothing": lambda: "No, nothing happens",
    "not seen": lambda: "I do not see one",
    "describe": _describe,
    "unknown": lambda: "I was not taught to tell that",
}

_TAUGHT, _HELD_OUT = read_wordings(FOLDER / "en")

ENGLISH = Language(
    taught=_TAUGHT,
    held_out=_HELD_OUT,
    synonyms={
        "object": ("thing", "figure"),
        "moon": ("crescent",),
        "object that": ("one that",),
        **{f"{color} object": (f"{color} one",) for color in COLORS},
    },
    happenings=_HAPPENINGS,
    definite=_definite,
    indefinite=_indefinite,
    sentences=_SENTENCES,
    mark=".",
)
