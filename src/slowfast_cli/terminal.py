"""What is written to the terminal: all of it, whatever its encoding, and little of long inputs."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def escape_what_does_not_fit() -> None:
    """Let stdout and stderr escape characters that their encoding lacks, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "", err: bool = False, end: str = "\n") -> None:
    """A line on stdout; or a message on stderr, which repeats little of long inputs.

    Not by `typer.echo`, which writes UTF-8 to terminals that say they know ASCII only.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # as for programs without a terminal
        print(_brief(text) if err else text, file=stream, end=end, flush=True)


def say_json(facts: Any, indent: int | None = None) -> None:
    """One JSON value on stdout, in ASCII where the encoding could not hold it otherwise."""
    text = json.dumps(facts, ensure_ascii=False, indent=indent)
    try:
        text.encode((sys.stdout and sys.stdout.encoding) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(facts, indent=indent)
    say(text)


class Thinking:
    """What a model thinks, on stderr as it comes, dim on a terminal; then a line ends."""

    def __init__(self) -> None:
        self._open = self._told = False

    def tell(self, piece: str) -> None:
        """A piece of it."""
        if not piece or sys.stderr is None:
            return
        self._open = self._told = True
        dim = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        sys.stderr.write(f"\x1b[2m{piece}\x1b[0m" if dim else piece)
        sys.stderr.flush()

    def end(self, thought: str | None = None) -> None:
        """End its line, if there is one; of a thought that did not come in pieces, tell it."""
        if not self._told:
            self.tell(thought or "")
        if self._open:
            say(err=True)
        self._open = False

    def before(self, show: Callable[[str], None]) -> Callable[[str], None]:
        """`show`, which begins on a line of its own."""

        def shown(text: str) -> None:
            self.end()
            show(text)

        return shown


def _brief(text: str) -> str:
    if len(text) <= 100:
        return text
    from slowfast_mllm.video.names import brief

    return brief(text)


def _hint(error: Exception) -> str:
    """For files whose names begin as options do."""
    files = (word for word in sys.argv[1:] if word.startswith("-") and os.path.exists(word))
    if not hasattr(error, "option_name") or (file := next(files, None)) is None:
        return ""
    return f". To name the file, write ./{file}"


@contextmanager
def brief_refusals() -> Iterator[None]:
    """What Typer says about a wrong argument, which it repeats, however long it is."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)  # of Typer's errors, which have no public base
        if isinstance(message, str):
            error.message = _brief(message) + _hint(error)  # type: ignore[attr-defined]
        raise
