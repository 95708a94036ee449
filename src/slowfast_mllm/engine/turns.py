"""A conversation that is given as a whole, as messages for a chat template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def conversation(
    user_message: Callable[[str, bool], dict[str, Any]],
    said: Callable[[str], Any],
    question: str,
    earlier: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Messages up to a question.

    Args:
        user_message: makes a turn of the user, of words and whether it is the first of them, which
            brings the video.
        said: makes the content of another message of its words.
        earlier: `role` (system, first of all, or user and assistant) and `content`, words, of each
            message before the question.

    Raises:
        ValueError: a turn of the user is empty.
    """
    messages: list[dict[str, Any]] = []
    first = True
    for message in (*earlier, {"role": "user", "content": question}):
        if message["role"] == "user":
            messages.append(user_message(message["content"], first))
            first = False
        else:
            messages.append({"role": message["role"], "content": said(message["content"])})
    return messages
