"""What messages hold: words, and the videos and pictures that they name, in whichever spelling."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slowfast_mllm.serve.errors import wrong
from slowfast_mllm.video.names import short_name

_ROLES = ("system", "developer", "user", "assistant")
# Type of a part -> keys under which the video or picture is named; a mapping there has it as `url`,
# `data` or one of the file's keys.
_MEDIA = {
    "video_url": ("video_url",),
    "image_url": ("image_url",),
    "input_video": ("video_url", "input_video", "video", "file_id", "url"),
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_id", "file_url", "file_data"),
    "video": ("video", "url", "path", "file_id"),
    "image": ("image", "url", "path", "file_id"),
    "file": ("file",),
}
_WITHIN = ("url", "file_id", "file_data", "file_url", "data")
_TEXT = ("text", "input_text", "output_text")


@dataclass
class Conversation:
    """What a request says.

    Attributes:
        question: the words of the last turn, which is the user's.
        earlier: `role` and `content` of each message before it.
        media: what names the videos and pictures, in order, each once.
    """

    question: str = ""
    earlier: list[dict[str, str]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)


def conversation_of(messages: list[dict[str, Any]], longest: int) -> Conversation:
    """Read messages.

    Args:
        messages: as in OpenAI's API.
        longest: characters of all words together.

    Raises:
        ApiError: something in them is not understood, or it is too much.
    """
    found = Conversation()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if role not in _ROLES:
            raise wrong(f"{where}.role: give one of {', '.join(_ROLES)}", f"{where}.role")
        content = message.get("content")
        if content is None and role == "assistant":  # as clients write a turn without words
            content = ""
        words = _words(content, f"{where}.content", found.media)
        if role in ("system", "developer"):
            if number:
                raise wrong(f"{where}: a system message comes first, and once", where)
            role = "system"
        found.earlier.append({"role": role, "content": words})
    if not found.earlier or found.earlier[-1]["role"] != "user":
        raise wrong("messages: the last one must be the user's question", "messages")
    found.question = found.earlier.pop()["content"]
    if not found.question.strip():
        raise wrong(
            "messages: the question is empty; ask something like 'What happens?'",
            "messages",
            "empty_question",
        )
    length = len(found.question) + sum(len(turn["content"]) for turn in found.earlier)
    if length > longest:
        raise wrong(
            f"messages: {length} characters, and this server reads {longest} at most; ask in fewer",
            "messages",
            "question_too_long",
        )
    return found


def _words(content: Any, where: str, media: list[str]) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(f"{where}: give words, or a list of parts", where)
    words = []
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        if isinstance(part, str):
            words.append(part)
        elif not isinstance(part, Mapping):
            raise wrong(f"{place}: give an object with a type", place)
        elif part.get("type") in _TEXT:
            text = part.get("text")
            if not isinstance(text, str):
                raise wrong(f"{place}.text: give words", place)
            words.append(text)
        else:
            reference = reference_of(part, place)
            if reference not in media:
                media.append(reference)
    return "\n".join(words)


def reference_of(part: Any, where: str) -> str:
    """What a part names a video or picture by.

    Args:
        part: a plain string, or an object of a type that is known.

    Raises:
        ApiError: it is of another type, or names none.
    """
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("type") not in _MEDIA:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise wrong(
            f"{where}: a part of type {short_name(str(kind))} is not understood; use text, "
            f"{', '.join(_MEDIA)}",
            f"{where}.type",
            "unsupported_part",
        )
    for key in _MEDIA[part["type"]]:
        given = part.get(key)
        if isinstance(given, Mapping):
            given = next((given[name] for name in _WITHIN if given.get(name)), None)
        if isinstance(given, str) and given:
            return given
    raise wrong(f"{where}: names no file; give it under {_MEDIA[part['type']][0]}", where)
