"""Errors about arguments that name the argument and show an example. Knows no processor."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassFieldValidationError

from slowfast_mllm.video.names import brief, short_name

EXAMPLE = "processor(text='<video>\\nWhat happens?', videos='clip.mp4', num_frames=32)"


def check_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError for the first name that is not known."""
    names = sorted(known)
    for name in sorted(set(given) - set(names)):
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}."
        raise ValueError(f"Unknown argument {short_name(name)!r}; {hint} Example: {EXAMPLE}.")


@contextmanager
def argument_errors() -> Iterator[None]:
    """What transformers raises for a value of the wrong type, as one line."""
    try:
        yield
    except StrictDataclassFieldValidationError as error:
        cause = brief(" ".join(str(error.__cause__ or error).split()))
        raise ValueError(f"{cause} Example: {EXAMPLE}.") from error
