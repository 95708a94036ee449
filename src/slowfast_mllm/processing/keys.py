"""Keys that are not understood are refused by name, in messages, records and recipes."""

import difflib
from collections.abc import Iterable

from slowfast_mllm.video.names import short_name


def unknown_key(given: Iterable[object], known: Iterable[str]) -> str | None:
    """What is wrong with the first key that is not known, and which one is likely meant.

    Returns:
        None where all are known.
    """
    names = list(known)
    unknown = sorted(str(key) for key in set(given) - set(names))
    if not unknown:
        return None
    close = difflib.get_close_matches(unknown[0], names, n=1)
    likely = f"did you mean {close[0]!r}? Known" if close else "known"
    return f"unknown key {short_name(unknown[0])!r}; {likely} are {', '.join(names)}."
