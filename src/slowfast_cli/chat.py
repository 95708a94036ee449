"""`slowfast chat`: a conversation about one video, which is read and encoded once."""

import io
import sys

import typer

from slowfast_cli.answering import Answering, answering
from slowfast_cli.loading import refuse_processes
from slowfast_cli.options import Watched
from slowfast_cli.terminal import say


@answering
def chat(video: Watched, how: Answering) -> None:
    """Talk about a video: a question a line; an empty line or Ctrl-D ends.

    With --json every answer is one line of JSON. A question that cannot be asked
    is refused and the conversation goes on; the exit code is 1 then.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # to refuse what is no text by itself
    if how.device == "tp":
        refuse_processes()
    told = how.told(video)
    conversation = how.watch(video)
    failed = False
    while question := _next_question():
        try:
            how.answer(conversation, question, **told)
        except ValueError as error:  # of this question: the next one may be better
            say(f"Error: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)


def _next_question() -> str:
    """A line from the terminal, with a prompt there, or from a pipe; empty at its end."""
    if sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        say("? ", err=True, end="")
    return sys.stdin.readline().strip()
