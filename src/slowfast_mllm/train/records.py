"""Records to train on: conversations about videos and images, from the formats that are in use.

LLaVA-style rows (`video` or `image` beside `conversations`) and rows of chat messages, from JSON,
JSON Lines and Parquet, data sets of Hugging Face `datasets`, and folders of such files.
Preferences are records whose last answer is missing, with `chosen` and `rejected` beside them.
Every record becomes messages as chat templates take them, or a `RecordError` that says why not:
a key that is not understood is refused, as it was meant to change something.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from slowfast_mllm.processing.clips import SAMPLING, sampling_of
from slowfast_mllm.processing.inputs import is_frame_file
from slowfast_mllm.train.record import Message, Record, RecordError, Stored
from slowfast_mllm.train.record_keys import OF_PARTS, OF_RECORDS, OF_TURNS, check_keys
from slowfast_mllm.train.record_rows import rows_of
from slowfast_mllm.video import VideoError
from slowfast_mllm.video.names import is_data_uri, is_utf8, localized, short_name

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_PLACEHOLDERS = ("<video>", "<image>")
_MOST_AT_A_RATE = 512  # frames
_HEAVIEST = 100  # weight of an answer
_OUTSIDE = re.compile(  # placeholders before or after the words
    r"(?:\s*<(?:video|image)>)*(?:(?!<video>|<image>).)*(?:<(?:video|image)>\s*)*", re.DOTALL
)


def read_records(
    path: str | Path, media: str | Path | None = None
) -> Iterator[Record | RecordError]:
    """The records of a source, one after the other; errors come in the place of bad ones.

    Args:
        path: a `.json`, `.jsonl` or `.parquet` file, a folder of such files or of a data set that
            `datasets` saved, or the hub id of a data set (its split "train").
        media: folder that relative paths of videos and images start from; default: the folder of
            the file.

    Raises:
        RecordError: the source as a whole cannot be read.
    """
    for where, row, home in rows_of(Path(path), str(path)):
        try:
            yield _parse(row, Path(media) if media is not None else home, where)
        except RecordError as error:
            yield error


def _parse(row: Any, media: Path, where: str) -> Record:
    if isinstance(row, Exception):
        raise RecordError(f"{where}: not valid JSON ({row}).")
    if not isinstance(row, dict):
        raise RecordError(f"{where}: expected an object, found {type(row).__name__}.")
    row = {name: _listed(value) for name, value in row.items() if value is not None}
    messages, rejected = _conversation(row, media, where)
    carried = check_keys(row, OF_RECORDS, where)
    _place_sampling(messages, row, where)
    if row.get("system"):
        if any(message["role"] == "system" for message in messages):
            raise RecordError(f"{where}: `system` beside a turn of the system; leave out one.")
        messages.insert(0, {"role": "system", "content": [_text(row["system"], where)]})
    _check_order(messages, where)
    return Record(messages, where, rejected, frozenset(carried))


def _conversation(row: dict[str, Any], media: Path, where: str) -> tuple[list[Message], str | None]:
    """The messages with the better answer, and the worse one of a preference."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    prompt = row.get("messages")
    if row.get("prompt") is not None and (prompt is None or chosen is not None):
        prompt = row["prompt"]  # with `messages` and no answer, it only repeats their beginning
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if _is_conversation(chosen) and _is_conversation(rejected):  # both with the prompt before them
        prompt, chosen = chosen[:-1], chosen[-1:]
        if _comparable(rejected[:-1]) != _comparable(prompt):
            raise RecordError(f"{where}: `chosen` and `rejected` differ before the last answer.")
        rejected = rejected[-1:]
    if prompt is not None:
        messages = [_chat_message(m, media, where) for m in _turns(prompt, where)]
        _fill_in(messages, row, media, where)
    else:
        turns = row.get("conversations", row.get("conversation"))
        if turns is None:
            found = ", ".join(repr(name[:40]) for name in row)
            raise RecordError(
                f"{where}: neither `messages` nor `conversations`; found {found[:300]}."
            )
        messages = _llava_messages(row, _turns(turns, where), media, where)
    if chosen is not None or rejected is not None:
        rejected = _answer(rejected, where)
        better = {"type": "text", "text": _answer(chosen, where)}
        messages.append({"role": "assistant", "content": [better]})
    return messages, rejected


def _place_sampling(messages: list[Message], row: dict[str, Any], where: str) -> None:
    """What is beside a conversation about one video says which of its frames are meant."""
    beside = {key: row[key] for key in SAMPLING if key in row}
    if not beside:
        return
    parts = [p for message in messages for p in message["content"] if p["type"] == "video"]
    if len(parts) != 1:
        raise RecordError(
            f"{where}: `{next(iter(beside))}` beside {len(parts)} videos; put it into the part of "
            "the video that it is about."
        )
    if "sampling" in parts[0]:
        raise RecordError(f"{where}: `{next(iter(beside))}` beside a part that has its own.")
    parts[0]["sampling"] = _sampling(beside, parts[0]["path"], where)


def _sampling(given: dict[str, Any], file: Any, where: str) -> dict[str, Any]:
    """Arguments of `read_video`; a rate gives no more frames than the command line's."""
    try:
        found = sampling_of(given, file)
    except ValueError as error:
        raise RecordError(f"{where}: {error}.") from error
    return {"max_frames": _MOST_AT_A_RATE, **found} if "fps" in found else found


def _listed(value: Any) -> Any:
    """A dict of equally long lists, as `datasets` stores a `Sequence` of dicts, as a list again."""
    lists = list(value.values()) if isinstance(value, dict) else []
    if not lists or not all(isinstance(x, list) and len(x) == len(lists[0]) for x in lists):
        return value
    return [dict(zip(value, parts, strict=True)) for parts in zip(*lists, strict=True)]


def _is_conversation(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and len(value) > 1


def _comparable(turns: list[Any]) -> str:
    """What is said; a picture stored in each of two conversations has another place in each."""
    return json.dumps(turns, sort_keys=True, default=lambda _: None)


def _fill_in(messages: list[Message], row: dict[str, Any], media: Path, where: str) -> None:
    """Give parts without a file those of the columns `images` and `videos`, in order (TRL's way).

    Placeholders in users' words are such parts; where nothing stands for the files, they belong
    before the first user's words.
    """
    columns = {kind: _column(row, kind, where) for kind in ("image", "video")}
    named = {part["type"] for message in messages for part in message["content"]}
    tokens = [f"<{kind}>" for kind in columns if columns[kind] and kind not in named]
    users = [message for message in messages if message["role"] == "user"]
    for message in users:
        parts, message["content"] = message["content"], []
        for part in parts:
            if part["type"] == "text":
                found, part["text"] = _without_placeholders(part["text"], tokens, where)
                message["content"] += [{"type": token[1:-1]} for token in found]
            message["content"].append(part)
    for kind, files in columns.items():
        parts = [p for message in messages for p in message["content"] if p["type"] == kind]
        empty = [part for part in parts if "path" not in part]
        if parts and not empty:
            continue
        if users and not parts:
            empty = [{"type": kind} for _ in files]
            users[0]["content"] = [*empty, *users[0]["content"]]
        if len(empty) != len(files):
            raise RecordError(
                f"{where}: {len(empty)} parts or placeholders of type {kind} for {len(files)} "
                "files."
            )
        for part, file in zip(empty, files, strict=True):
            _give_file(part, file, media, where)


def _column(row: dict[str, Any], kind: str, where: str) -> list[Any]:
    """The files of a row that are beside its conversation; those of a list may be frames."""
    one, many = row.get(kind), row.get(f"{kind}s")
    if one and many:
        raise RecordError(f"{where}: `{kind}` beside `{kind}s`; leave out one of them.")
    files = many or one or []
    if not isinstance(files, list):
        return [files]
    frames = kind == "video" and not many and len(files) > 1
    frames = frames and all(isinstance(file, str) and is_frame_file(file) for file in files)
    return [files] if frames else files


def _without_placeholders(text: str, tokens: Sequence[str], where: str) -> tuple[list[str], str]:
    """Those of `tokens` that are in a user's words, and the words without them."""
    found = [token for token in re.findall("|".join(_PLACEHOLDERS), text) if token in tokens]
    if len(found) > 1 and not _OUTSIDE.fullmatch(text):
        raise RecordError(
            f"{where}: placeholders between words; in this model's turns all videos and "
            "images come before the words."
        )
    for token in found:
        text = text.replace(f"{token}\n", "").replace(token, "")
    return found, text


def _answer(value: Any, where: str) -> str:
    """`chosen` and `rejected`: words, or one message of an assistant, or its only part."""
    for key in ("content", "text"):
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0].get(key)
    text = _text(value, where)["text"]
    if not text.strip():
        raise RecordError(f"{where}: an empty answer.")
    return text.strip()  # a line break could become one token with that before the answer


def _turns(turns: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RecordError(f"{where}: a conversation is a list of objects.")
    return turns


def _role(name: Any, where: str) -> str:
    if not isinstance(name, str) or name not in _ROLES:
        raise RecordError(
            f"{where}: unknown role {str(name)[:40]!r}; known are {', '.join(_ROLES)}."
        )
    return _ROLES[name]


def _text(value: Any, where: str) -> Message:
    if not isinstance(value, str):
        raise RecordError(f"{where}: the words of a turn are {type(value).__name__}, not a string.")
    _refuse_half_characters(value, where)
    return {"type": "text", "text": value}


def _chat_message(message: dict[str, Any], media: Path, where: str) -> Message:
    check_keys(message, OF_TURNS, where)
    role = _role(message.get("role", message.get("from")), where)
    content = _listed(message.get("content", message.get("value")))
    if not isinstance(content, list):
        parts = [_text(content, where)]
    else:
        parts = [_part(part, media, where) for part in content]
    return {"role": role, "content": parts, **_weight(message, role, where)}


def _part(part: Any, media: Path, where: str) -> Message:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in OF_PARTS:
        raise RecordError(
            f"{where}: a part of type {str(kind)[:40]!r}; known are {', '.join(OF_PARTS)}."
        )
    # Rows of `datasets` have every key; those of other kinds are None.
    check_keys(part, OF_PARTS[kind], where)
    if kind == "text":
        return _text(part.get("text"), where)
    given = {key: part[key] for key in SAMPLING if part.get(key) is not None}
    found = {"type": kind, "sampling": given} if given else {"type": kind}
    files = [key for key in ("path", "url", kind) if part.get(key)]
    if len(files) > 1:
        raise RecordError(f"{where}: `{files[0]}` beside `{files[1]}`; leave out one of them.")
    return _give_file(found, part[files[0]], media, where) if files else found


def _weight(turn: dict[str, Any], role: str, where: str) -> dict[str, float]:
    """`weight` of an answer, from `loss` or `weight`; none where it counts as answers do."""
    said = {key: turn[key] for key in ("loss", "weight") if turn.get(key) is not None}
    for key, value in said.items():
        if not isinstance(value, bool | int | float) or not 0 <= value <= _HEAVIEST:
            raise RecordError(
                f"{where}: {key} of a turn is {str(value)[:40]!r}; give false, true, or a number "
                f"from 0 to {_HEAVIEST}."
            )
        if value and role != "assistant":
            raise RecordError(f"{where}: {key} on a turn of the {role}; only answers are learned.")
    weights = {float(value) for value in said.values()}
    if len(weights) > 1:
        raise RecordError(f"{where}: loss and weight of a turn differ; leave out one of them.")
    return {"weight": weights.pop()} if role == "assistant" and weights - {1.0} else {}


def _llava_messages(
    row: dict[str, Any], turns: list[dict[str, Any]], media: Path, where: str
) -> list[Message]:
    """`<image>` stands for the record's visual input of either kind, as in the official data."""
    videos, images = _column(row, "video", where), _column(row, "image", where)
    if videos and images:
        raise RecordError(f"{where}: `video` and `image` in one record; use chat messages.")
    kind = "video" if videos else "image"
    left = [_give_file({"type": kind}, file, media, where) for file in videos or images]
    messages = []
    for turn in turns:
        check_keys(turn, OF_TURNS, where)
        role = _role(turn.get("from", turn.get("role")), where)
        text = _text(turn.get("value", turn.get("content")), where)["text"]
        tokens = _PLACEHOLDERS if role == "user" else ()
        found, text = _without_placeholders(text, tokens, where)
        if len(found) > len(left):
            raise RecordError(
                f"{where}: more placeholders ({' or '.join(_PLACEHOLDERS)}) than files."
            )
        visual, left = left[: len(found)], left[len(found) :]
        content = [*visual, {"type": "text", "text": text.strip()}]
        messages.append({"role": role, "content": content, **_weight(turn, role, where)})
    if left:
        name = short_name(str(left[0]["path"]))
        raise RecordError(f"{where}: no placeholder ({' or '.join(_PLACEHOLDERS)}) for {name}.")
    return messages


def _give_file(part: Message, file: Any, media: Path, where: str) -> Message:
    """The part with the path of its file, or of each frame where a list of them is a video."""
    if isinstance(file, list) and part["type"] == "video":
        if not file:
            raise RecordError(f"{where}: a video of no frames.")
        part["path"] = [_file(frame, media, where) for frame in file]
    else:
        part["path"] = _file(file, media, where)
    if "sampling" in part:  # as it was written, whose meaning depends on the kind of file
        part["sampling"] = _sampling(part["sampling"], part["path"], where)
    return part


def _file(name: Any, media: Path, where: str) -> str | Stored:
    if isinstance(name, Stored):
        return name
    if not isinstance(name, str):
        raise RecordError(f"{where}: the path of a video or image is {type(name).__name__}.")
    _refuse_half_characters(name, where)
    if is_data_uri(name):
        return name
    try:
        local = localized(name)
    except VideoError as error:
        raise RecordError(f"{where}: {error}.") from error
    if "://" in local:
        raise RecordError(
            f"{where}: {short_name(local)}: only local files are read; download it first."
        )
    return str(media / local)


def _refuse_half_characters(text: str, where: str) -> None:
    if not is_utf8(text):
        raise RecordError(f"{where}: half a character (a lone surrogate) in {text[:40]!a}.")


def _check_order(messages: list[Message], where: str) -> None:
    """Users and assistants in turn, the last word an assistant's, and no empty answer."""
    roles = [m["role"] for m in messages if m["role"] != "system"]
    paired = roles == ["user", "assistant"] * (len(roles) // 2)
    if not roles or not paired or messages[-1]["role"] == "system":
        raise RecordError(f"{where}: turns must alternate, a user's first and an answer last.")
    if all(m.get("weight") == 0 for m in messages if m["role"] == "assistant"):
        raise RecordError(f"{where}: no answer carries loss.")
    for message in messages:
        words = "".join(p["text"] for p in message["content"] if p["type"] == "text")
        if message["role"] == "assistant" and not words.strip():
            raise RecordError(f"{where}: an empty answer.")
        kinds = {part["type"] for part in message["content"]}
        if message["role"] != "user" and kinds - {"text"}:
            raise RecordError(f"{where}: only users bring videos and images.")
