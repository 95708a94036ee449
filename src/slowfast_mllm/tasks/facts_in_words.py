"""What was measured in a video, as words that a model can be told before a question."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slowfast_mllm.tasks.camera import CameraMove
    from slowfast_mllm.tasks.facts import Facts, FilmedShot

_MOST = 12  # of each kind that are told one by one: a film of hours has thousands


@cache
def _wordings() -> dict[str, str]:
    text = files("slowfast_mllm.tasks").joinpath("facts.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def facts_in_words(facts: "Facts") -> str:
    """A few sentences, of the first twelve of each kind where there are more.

    How the camera moved is left out where the picture does not tell.
    """
    return " ".join(_sentences(facts))


def _sentences(facts: "Facts") -> Iterator[str]:
    words = _wordings()
    yield words["measured"].format(duration=facts.video.duration)
    if facts.cuts is None:
        yield words["cuts unknown"]
    else:
        times = [f"{cut.time:.1f} s" for cut in facts.cuts]
        which = {0: "no cuts", 1: "one cut"}.get(len(times), "cuts")
        yield words[which].format(count=len(times), times=_listed(times))
    for shot in facts.shots[:_MOST]:
        yield from _filmed(shot, alone=len(facts.shots) == 1)
    spans: tuple[tuple[str, Sequence[tuple[float, float]]], ...] = (
        ("from black", [(f.start, f.end) for f in facts.fades if f.kind == "from black"]),
        ("to black", [(f.start, f.end) for f in facts.fades if f.kind == "to black"]),
        ("black", [(part.start, part.end) for part in facts.black]),
        ("frozen", [(part.start, part.end) for part in facts.freezes]),
    )
    for name, parts in spans:
        if parts:
            told = [words["span"].format(start=start, end=end) for start, end in parts]
            yield words[name].format(spans=_listed(told))
    if not facts.sound:
        yield words["no sound" if facts.sound is None else "silent"]


def _filmed(shot: "FilmedShot", alone: bool) -> Iterator[str]:
    """How the camera moved, where the picture tells."""
    if shot.camera is None:
        return
    words = _wordings()
    if not shot.camera:
        yield words["camera rests" if alone else "camera rests in shot"].format(
            start=shot.start, end=shot.end
        )
    for move in shot.camera:
        yield words["camera"].format(moves=_moves(move), start=move.start, end=move.end)


def _moves(move: "CameraMove") -> str:
    words = _wordings()[move.kind]
    return words if move.direction is None else f"{words} {_wordings()[move.direction]}"


def _listed(parts: Iterable[str]) -> str:
    """In words, and "and more" where there are many."""
    told = [*parts]
    more = [_wordings()["more"]] if len(told) > _MOST else []
    told = [*told[:_MOST], *more]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}" if told else ""
