"""Reads what lmms-eval asks: arguments of its requests into questions about videos.

Requests are known by their `args` alone, so nothing of the harness is imported. `documents` is
what it puts on a model: of a task, a split and a document's number, the document.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

from slowfast_mllm.engine import Generation
from slowfast_mllm.evaluate.lmms import Asked, Clip, Talk, Weighed

_Documents = Mapping[str, Any]
_NUMBERS = ("max_new_tokens", "temperature", "top_p", "num_beams", "seed")


def simple_talk(request: Any, documents: _Documents) -> Talk:
    """Of `generate_until`, as simple models are asked."""
    context, options, doc_to_visual, doc_id, task, split = request.args

    def rounds() -> Generator[Asked, str | None, None]:
        yield _about(doc_to_visual(documents[task][split][doc_id]), context)

    return Talk(task, doc_id, generation_of(options), rounds())


def simple_rounds(request: Any, documents: _Documents) -> Talk:
    """Of `generate_until_multi_round`, as simple models are asked: the task is told what was said
    so far, and says what is asked next, or that it is over."""
    context, options, doc_to_visual, doc_to_text, doc_id, task, split = request.args

    def rounds() -> Generator[Asked, str | None, None]:
        document = documents[task][split][doc_id]
        said: list[str] = []
        visuals, words, known = doc_to_visual(document), context, None
        while True:
            said.append((yield _about(visuals, words)) or "")
            told = {"previous_output": [*said], "round_idx": len(said)}
            following = doc_to_text(document, **told, previous_round_info=known)
            visuals, words, is_over, _, known = following
            if is_over:
                return

    return Talk(task, doc_id, generation_of(options), rounds())


def chat_talk(request: Any, documents: _Documents) -> Talk:
    """Of `generate_until`, as chat models are asked."""
    _, doc_to_messages, options, doc_id, task, split = request.args

    def rounds() -> Generator[Asked, str | None, None]:
        yield asked_in(doc_to_messages(documents[task][split][doc_id]))

    return Talk(task, doc_id, generation_of(options), rounds())


def chat_rounds(request: Any, documents: _Documents) -> Talk:
    """Of `generate_until_multi_round`, as chat models are asked."""
    _, doc_to_messages, options, doc_id, task, split = request.args

    def rounds() -> Generator[Asked, str | None, None]:
        document = documents[task][split][doc_id]
        said: list[str] = []
        messages, known = doc_to_messages(document), None
        while True:
            said.append((yield asked_in(messages)) or "")
            told = {"previous_output": [*said], "round_idx": len(said)}
            following = doc_to_messages(document, **told, previous_round_info=known)
            if not isinstance(following, tuple):  # a task of one round after all
                return
            messages, is_over, _, known = following
            if is_over:
                return

    return Talk(task, doc_id, generation_of(options), rounds())


def weighed(request: Any, documents: _Documents) -> Weighed:
    """Of `loglikelihood`; of a choice without its question there is no video."""
    if len(request.args) == 2:
        return Weighed(request.task_name, request.doc_id, partial(_choice_alone, *request.args))
    context, target, doc_to_visual, doc_id, task, split = request.args

    def read() -> tuple[Asked, str]:
        document = documents[task][split][doc_id]
        answer = target if isinstance(target, str) else target(document)
        return _about(doc_to_visual(document), context), answer

    return Weighed(task, doc_id, read)


def _choice_alone(context: str, choice: str) -> tuple[Asked, str]:
    return Asked((), context), choice


def generation_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Generation` from a task's `generation_kwargs`; of others it has no notion.

    The longest answer is always among them, so that the protocol tells it.
    """
    options: dict[str, Any] = {"max_new_tokens": Generation.max_new_tokens}
    options |= {name: given[name] for name in _NUMBERS if given.get(name) is not None}
    if given.get("do_sample") is False:
        options.pop("top_p", None)
        options["temperature"] = 0.0
    until = given.get("until") or ()
    stop = [until] if isinstance(until, str) else list(until)
    if stop := [words for words in stop if words]:
        options["stop"] = stop
    return options


# ---- what is asked -------------------------------------------------------------------------------


def _about(visuals: Any, words: str) -> Asked:
    """A question about what `doc_to_visual` gave: paths, pictures, or mappings that name one."""
    given = visuals if isinstance(visuals, list | tuple) else [] if visuals is None else [visuals]
    return Asked(_clips([_clip_of(one) for one in _flat(given)]), words)


def _flat(given: Sequence[Any]) -> list[Any]:
    return [x for one in given for x in (_flat(one) if isinstance(one, list | tuple) else [one])]


def asked_in(messages: Sequence[Mapping[str, Any]]) -> Asked:
    """The question that messages end with, about the videos and pictures of all of them.

    Raises:
        ValueError: the last of them is no question.
    """
    seen: list[Any] = []
    said: list[dict[str, str]] = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        words = [part["text"] for part in parts if part["type"] == "text"]
        seen += [_part(part) for part in parts if part["type"] != "text"]
        said.append({"role": message["role"], "content": "\n".join(words)})
    if not said or said[-1]["role"] != "user":
        raise ValueError("the messages of this task end with no question of the user.")
    return Asked(_clips(seen), said[-1]["content"], tuple(said[:-1]))


def _part(part: Mapping[str, Any]) -> Any:
    kind = part["type"]
    if kind not in ("video", "image"):
        raise ValueError(f"it comes with a part of type {kind}, and this model sees videos only.")
    bounds = {"start": part.get("start_time"), "end": part.get("end_time")}
    return _clip_of(part["url"], **bounds)


def _clip_of(visual: Any, start: float | None = None, end: float | None = None) -> Any:
    """A `Clip` of a path, or the picture as it is."""
    if isinstance(visual, Mapping):
        found = next((visual[k] for k in ("video", "url", "path") if visual.get(k)), None)
        if visual.get("type", "video") not in ("video", "image") or found is None:
            raise ValueError(f"it is about what this model cannot see: {sorted(visual)}.")
        return _clip_of(found, visual.get("video_start", start), visual.get("video_end", end))
    if isinstance(visual, str | os.PathLike):
        return Clip(os.fspath(visual), start, end)
    return visual


def _clips(seen: Sequence[Any]) -> tuple[Clip, ...]:
    """Paths as they are; pictures are the frames of one clip."""
    clips = [one for one in seen if isinstance(one, Clip)]
    pictures = tuple(one for one in seen if not isinstance(one, Clip))
    return (*clips, *([Clip(pictures)] if pictures else []))
