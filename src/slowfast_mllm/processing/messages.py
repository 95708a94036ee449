"""Parts of messages in others' spelling, brought into the one that chat templates know."""

from collections.abc import Mapping
from typing import Any

from slowfast_mllm.processing.clips import SAMPLING, Clip, sampling_of
from slowfast_mllm.processing.keys import unknown_key
from slowfast_mllm.video import SampledVideo

_FILES = ("video", "url", "path")  # of which a part has one


def with_known_parts(conversation: Any) -> Any:
    """Messages, or conversations of them, in which videos are of type `video`.

    OpenAI's `{"type": "video_url", "video_url": {"url": ...}}` becomes `{"type": "video", "url":
    ...}`, and a video under `base64` is found under `video`. What a video's part says about its
    frames (`video_start`, `video_end`, `fps`, `nframes`, ...) goes with the video as a `Clip`.
    Nothing is changed in place.

    Raises:
        ValueError: what a part says about its frames is out of range, in conflict, or not
            understood.
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
        url = given.get("url") if isinstance(given, Mapping) else given
        part = {**rest, "type": "video", "url": url}
    elif kind == "video" and "base64" in part:
        rest = {name: value for name, value in part.items() if name != "base64"}
        part = {**rest, "video": part["base64"]}
    return _with_frames(part) if part.get("type") == "video" else part


def _with_frames(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a video that brings what the part says about its frames."""
    given = {name for name, value in part.items() if value is not None}
    if wrong := unknown_key((n for n in given if n[:1] != "_"), ("type", *_FILES, *SAMPLING)):
        raise ValueError(f"A part of type video: {wrong} What begins with _ is not looked at.")
    key = next((key for key in _FILES if key in part), None)
    if key is None:
        return part
    sampling = sampling_of(part, part[key])
    if not sampling and not isinstance(part[key], SampledVideo):
        return part
    rest = {name: value for name, value in part.items() if name not in SAMPLING}
    return {**rest, key: Clip(part[key], sampling)}
