"""Reads the wordings that questions are drawn from: text files, one wording a line.

In `wordings/<language>/`, `plain.txt` and `voices.txt` are what training draws, the latter in the
voices of many people; `held_out.txt` is what it never does. The questions about everyday things
have files of the same kind in their package. A file has sections, each under a
heading like `== color first ==`; lines that begin with "#" explain. In a wording, "[a|b|]" stands
for one of "a", "b", nothing; {x} and the other placeholders are named below. What a seed draws
depends on the order of the lines, and on their number.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("wordings")
# The placeholders that each wording of a section has. {x}, {a}, {b}: things that are there ("the
# star"); {any}: one that may not be ("a star"); {plural}: a kind of things.
_NONE, _ONE, _TWO = frozenset[str](), frozenset({"x"}), frozenset({"a", "b"})
QUESTIONS = {
    **dict.fromkeys(("color", "color first", "color last", "shape", "direction"), _ONE),
    **dict.fromkeys(("order after", "when", "when gone", "when change"), _ONE),
    **dict.fromkeys(("duration", "repeat"), _ONE),
    **dict.fromkeys(("speed", "speed slower", "order", "order later", "order events"), _TWO),
    **dict.fromkeys(("count", "order last", "when text", "when picture", "when cut"), _NONE),
    **dict.fromkeys(("change", "camera", "cuts", "text", "needle", "fade", "describe"), _NONE),
    **dict.fromkeys(("happens", "moves", "enters", "leaves"), _NONE),
    "count some": frozenset({"plural"}),
    "presence": frozenset({"any"}),
}
UNKNOWN = "unknown"  # questions about what this world does not contain
HELPERS = {
    "unknown things": frozenset({"thing"}),  # makes more of them, from
    "things": _NONE,
    "around": frozenset({"q"}),  # surrounds a question: {Q}, or {q} as the middle of a sentence
    "places": _NONE,  # may end a question that is one sentence without any word that is
    "placed": _NONE,
}
_HEADING = re.compile(r"== (.*) ==")
ALTERNATIVES = re.compile(r"\[([^][]*)\]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

ASKED = QUESTIONS | {UNKNOWN: _NONE}
Sections = dict[str, tuple[str, ...]]
Placeholders = Mapping[str, frozenset[str]]


def read_wordings(
    folder: Path,
    questions: Placeholders = ASKED,
    helpers: Placeholders = HELPERS,
) -> tuple[Sections, Sections]:
    """The wordings of a language, by section: what training draws, and what it never does.

    Args:
        folder: its `held_out.txt` is what training never draws, all other files what it does.
        questions: sections that both have, and the placeholders of each of their wordings.
        helpers: sections that may be there beside them.

    Raises:
        ValueError: a wording that cannot be drawn from, is there twice, is taught and held out, or
            a question that has none.
    """
    sections = {**questions, **helpers}
    files = {path.name: read_sections(path, sections) for path in sorted(folder.glob("*.txt"))}
    held_out = files.pop("held_out.txt")
    taught = {
        name: tuple(wording for file in files.values() for wording in file.get(name, ()))
        for name in sections
    }
    for name in questions:
        if not taught[name] or name not in held_out:
            raise ValueError(f"{folder}: no wordings of {name!r}.")
        both = sorted(set(map(_bare, held_out[name])) & set(map(_bare, taught[name])))
        if both:
            raise ValueError(f"{folder}: {name}: both taught and held out: {both[0]}")
    for name, wordings in taught.items():
        twice = [wording for wording, count in Counter(wordings).items() if count > 1]
        # What people say around a question is drawn more often where it is there twice.
        if twice and name != "around":
            raise ValueError(f"{folder}: {name}: there twice: {twice[0]}")
    return taught, held_out


def _bare(wording: str) -> str:
    return wording.lower().rstrip("?.？。")


def read_sections(path: Path, placeholders: Placeholders = ASKED | HELPERS) -> Sections:
    """The wordings of one file by section, in order.

    Raises:
        ValueError: a wording that cannot be drawn from, with its line.
    """
    found: dict[str, list[str]] = {}
    section = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        if heading := _HEADING.fullmatch(line):
            section = heading[1]
        elif fault := _fault(section, line, placeholders):
            raise ValueError(f"{path}:{number}: {fault}: {line}")
        else:
            found.setdefault(section, []).append(line)
    return {name: tuple(wordings) for name, wordings in found.items()}


def _fault(section: str, wording: str, placeholders: Placeholders) -> str:
    """What is wrong with a wording; "" if nothing is."""
    if section not in placeholders:
        return f"unknown section {section!r}"
    if wording != wording.strip():
        return "blanks at an end"
    found = {"q" if name == "Q" else name for name in _PLACEHOLDER.findall(wording)}
    if found != placeholders[section]:
        wanted = " and ".join(f"{{{name}}}" for name in sorted(placeholders[section]))
        return f"a wording of {section!r} has {wanted or 'no placeholder'}"
    if re.search(r"[][{}|]", _PLACEHOLDER.sub("", ALTERNATIVES.sub("", wording))):
        return "unbalanced brackets"
    for drawn in ALTERNATIVES.findall(wording):
        alternatives = drawn.split("|")
        if len(alternatives) < 2 or len(set(alternatives)) < len(alternatives):
            return f"alternatives are one, or the same: [{drawn}]"
    return ""
