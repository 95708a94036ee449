"""Parts of messages in others' spelling, brought into the one that chat templates know."""

from collections.abc import Mapping
from typing import Any


def with_known_parts(conversation: Any) -> Any:
    """Messages, or conversations of them, in which videos are of type `video`.

    OpenAI's `{"type": "video_url", "video_url": {"url": ...}}` becomes `{"type": "video", "url":
    ...}`, and a video under `base64` is found under `video`. Nothing is changed in place.
    """
    if hasattr(conversation, "messages"):
        return with_known_parts(conversation.messages)
    if isinstance(conversation, list | tuple):
        return [with_known_parts(item) for item in conversation]
    if isinstance(conversation, Mapping) and isinstance(conversation.get("content"), list | tuple):
        return {**conversation, "content": [_known(part) for part in conversation["content"]]}
    return conversation


def _known(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind = part.get("type")
    if kind == "video_url" and "video_url" in part:
        rest = {name: value for name, value in part.items() if name != "video_url"}
        given = part["video_url"]
        return {
            **rest,
            "type": "video",
            "url": given["url"] if isinstance(given, Mapping) else given,
        }
    if kind == "video" and "base64" in part:
        rest = {name: value for name, value in part.items() if name != "base64"}
        return {**rest, "video": part["base64"]}
    return part
