"""Rewards that can be verified: is the answer right, is the format kept, how far do spans agree.

An answer may stand alone or as `<think>...</think><answer>...</answer>`; only the answer is judged.
"""

import re

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_INSIDE = r"(?:(?!</?(?:think|answer)>).)*"
_FORMAT = re.compile(rf"\s*<think>{_INSIDE}</think>\s*<answer>{_INSIDE}</answer>\s*", re.DOTALL)
_NUMBER = r"(\d+(?:\.\d+)?)"
_UNIT = r"\s*(?:seconds?|s)\b"
_SPAN = rf"from {_NUMBER}(?:{_UNIT})? to {_NUMBER}"


def answer_of(text: str) -> str:
    """What is judged of an answer: what stands between the tags, or all of it."""
    found = _ANSWER.search(text)
    return (found[1] if found else text).strip()


def keeps_format(text: str) -> float:
    """1 if the text is thoughts and an answer in their tags and nothing else, or 0."""
    return float(_FORMAT.fullmatch(text) is not None)


def accuracy(text: str, expected: str) -> float:
    """1 or 0 by the words, without case and punctuation; where a span of time is expected ("from
    2 to 4.5 seconds"), the intersection of both spans over their union."""
    given, right = answer_of(text).lower(), answer_of(expected).lower()
    wanted = re.search(_SPAN + _UNIT, right)  # without a unit it may be a score, not a time
    if wanted is None:
        return float(_words(given) == _words(right))
    told = re.search(_SPAN, given)
    if told is None:
        return 0.0
    (begin, end), (first, last) = (sorted(map(float, m.groups())) for m in (told, wanted))
    union = max(end, last) - min(begin, first)
    shared = min(end, last) - max(begin, first)
    return max(shared, 0.0) / union if union else 1.0


def _words(text: str) -> list[str]:
    """Words, and numbers with their sign and decimals; the text itself where it has none."""
    return re.findall(r"(?<![^\W_])-?\d+(?:\.\d+)?|[^\W_]+", text) or [text]
