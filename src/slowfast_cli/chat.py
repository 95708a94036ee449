"""`slowfast chat`: a conversation about one video, which is read and encoded once."""

import sys

import typer

from slowfast_cli.options import Answering, Watched, answering


@answering
def chat(video: Watched, how: Answering) -> None:
    """Talk about a video: a question a line; an empty line or Ctrl-D ends.

    With --json every answer is one line of JSON.
    """
    conversation = how.watch(video)
    while question := _next_question():
        how.answer(conversation, question)


def _next_question() -> str:
    """A line from the terminal, with a prompt there, or from a pipe; empty at its end."""
    if sys.stdin.isatty():
        typer.echo("? ", nl=False, err=True)
    return sys.stdin.readline().strip()
