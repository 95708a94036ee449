"""Whether what is said answers a question about things."""

from __future__ import annotations

import re

from slowfast_mini.world.scoring import QA, normalise


def score_thing(qa: QA, said: str) -> bool:
    """Whether `said` answers `qa`.

    Seconds may be one off; what is listed may come in any order; of a choice only the letter
    counts; all else is matched exactly but for case, punctuation and spaces.
    """
    if qa.form == "choice":
        letter = re.match(r"\(?([A-D])(?:[.):]|$)", said.strip(), re.IGNORECASE)
        return letter is not None and f"{letter[1].upper()}." == qa.answer
    if qa.type == "thing count":
        return normalise(said) == normalise(qa.answer)
    told, right = _parts(said), _parts(qa.answer)
    if told.keys() != right.keys():
        return False
    return all(abs(a - b) <= 1 for k in right for a, b in zip(told[k], right[k], strict=True))


_BETWEEN = re.compile(r"[.,;。，、；]|\band\b|和|還有")
_OPENING = re.compile(r"^(there (is|are)|有|在)\s*(?=\S)")


def _parts(text: str) -> dict[str, tuple[int, ...]]:
    """What is between commas and the like, with the numbers of seconds taken out of it."""
    found: dict[str, tuple[int, ...]] = {}
    for part in _BETWEEN.split(text.lower()):
        plain = _OPENING.sub("", normalise(part))
        seconds = tuple(map(int, re.findall(r"\d+", plain)))
        found[re.sub(r"\d+ ?(seconds?|秒)", "# s", plain)] = seconds
    found.pop("", None)
    return found
