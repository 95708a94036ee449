"""Records to train on: conversations about videos and images, from the formats that are in use.

LLaVA-style JSON and JSONL (`video` or `image` beside `conversations`), JSON and JSONL of chat
messages, data sets of Hugging Face `datasets` with either kind of row, and folders of such files.
Preferences are records whose last answer is missing, with `chosen` and `rejected` beside them.
Every record becomes messages as chat templates take them, or a `RecordError` that says why not.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from slowfast_mllm.model.whole_checkpoint import first_line
from slowfast_mllm.video.names import is_utf8

Message = dict[str, Any]

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_PLACEHOLDERS = ("<video>", "<image>")
_OUTSIDE = re.compile(  # placeholders before or after the words
    r"(?:\s*<(?:video|image)>)*(?:(?!<video>|<image>).)*(?:<(?:video|image)>\s*)*", re.DOTALL
)


class RecordError(ValueError):
    """A record that cannot be trained on: where it is, and why."""


@dataclass(frozen=True)
class Stored:
    """A video or picture whose bytes lie in a data set; they are read each time they are needed.

    Attributes:
        rows: of `datasets`, in Arrow's format: nothing is decoded.
        keys: the row's number, its column, then where in the column.
    """

    name: str
    rows: Any = field(repr=False)
    keys: tuple[int | str, ...]

    def open(self) -> io.BytesIO:
        """Its bytes, under the name that readers give to what is wrong with them."""
        row, column, *inside = self.keys
        value = self.rows[row][column][0]  # no other column's bytes are copied
        for key in inside:
            value = value[key]
        stream = io.BytesIO(value["bytes"].as_py())
        stream.name = str(self)
        return stream

    def __str__(self) -> str:
        return f"{self.name}{''.join(f'[{key}]' for key in self.keys)}"


@dataclass(frozen=True)
class Record:
    """One conversation.

    Attributes:
        messages: `role` and `content`; the content of users is a list of parts, and a part of type
            "video" or "image" has the `path` of a file, or what is `Stored` in its place.
        where: file and position, for reports.
        rejected: of a preference, the words in place of the last answer that are worse.
    """

    messages: list[Message]
    where: str
    rejected: str | None = None

    @property
    def media(self) -> list[tuple[str, Path | Stored]]:
        """Kind and file of each visual input, in order."""
        parts = [part for message in self.messages for part in message["content"]]
        files = [(p["type"], p["path"]) for p in parts if p["type"] != "text"]
        return [(kind, Path(f) if isinstance(f, str) else f) for kind, f in files]

    def check_files(self) -> None:
        """Raises RecordError where one of `media` is not there."""
        for _, path in self.media:
            if isinstance(path, Stored):
                continue
            try:
                there = path.exists()
            except (OSError, ValueError) as error:  # a name that no file can have
                name = f"{str(path)[:60]}..."
                raise RecordError(f"{self.where}: {name}: {first_line(error)[:60]}.") from error
            if not there:
                raise RecordError(f"{self.where}: {path}: no such file.")


def read_records(
    path: str | Path, media: str | Path | None = None
) -> Iterator[Record | RecordError]:
    """The records of a source, one after the other; errors come in the place of bad ones.

    Args:
        path: a `.json` or `.jsonl` file, a folder of such files or of a data set that `datasets`
            saved, or the hub id of a data set (its split "train").
        media: folder that relative paths of videos and images start from; default: the folder of
            the file.

    Raises:
        RecordError: the source as a whole cannot be read.
    """
    for where, row, home in _rows(Path(path), str(path)):
        try:
            yield _parse(row, Path(media) if media is not None else home, where)
        except RecordError as error:
            yield error


def _rows(path: Path, name: str) -> Iterator[tuple[str, Any, Path]]:
    """Position, raw row and folder."""
    if not name:  # Path("") is the current folder
        raise RecordError("'': not the name of a source.")
    saved = any((path / f).exists() for f in ("dataset_info.json", "dataset_dict.json"))
    if path.is_dir() and not saved:
        files = sorted(p for p in path.rglob("*") if p.suffix in (".json", ".jsonl"))
        if not files:
            raise RecordError(f"{name}: no .json or .jsonl file in this folder.")
        for file in files:
            yield from _rows(file, str(file))
    elif path.is_file():
        for where, row in _rows_of_file(path):
            yield where, row, path.parent
    elif path.is_dir() or _is_hub_id(name):
        rows = _data_set(path, name)
        home = path if path.is_dir() else Path()
        for number, table in enumerate(rows):
            row = {
                column: _without_bytes(table[column].chunk(0), name, rows, (number, column))
                for column in table.column_names
            }
            yield f"{name}[{number}]", row, home
    else:
        raise RecordError(f"{name}: no such file or folder.")


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and name[0] not in "./" and not name.endswith((".json", ".jsonl"))


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield f"{path}:{number}", json.loads(line)
                except (ValueError, RecursionError) as error:  # also a number of 5000 digits
                    yield f"{path}:{number}", error
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(rows, list):
        raise RecordError(f"{path}: expected a list of records; one record a line is `.jsonl`.")
    for number, row in enumerate(rows):
        yield f"{path}[{number}]", row


def _data_set(path: Path, name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise RecordError(f"{name}: needs the package datasets; `pip install datasets`.") from error
    try:
        if path.is_dir():
            found = datasets.load_from_disk(str(path))
            rows = found["train"] if isinstance(found, datasets.DatasetDict) else found
        else:
            rows = datasets.load_dataset(name, split="train")
        return rows.with_format("arrow")  # decodes nothing, and has the columns of every format
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise RecordError(
            f"{name}: cannot be loaded as a data set ({first_line(error)})."
        ) from error


def _without_bytes(one: Any, name: str, rows: Any, keys: tuple[int | str, ...]) -> Any:
    """The value of an Arrow array of length 1; bytes stay where they are until they are read."""
    import pyarrow as pa  # comes with `datasets`

    if one.null_count:
        return None
    if isinstance(one, pa.StructArray):
        parts = {field.name: one.field(i) for i, field in enumerate(one.type)}
        if parts.keys() != {"bytes", "path"}:
            return {k: _without_bytes(v, name, rows, (*keys, k)) for k, v in parts.items()}
        return parts["path"][0].as_py() if parts["bytes"].null_count else Stored(name, rows, keys)
    lists = (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)
    if isinstance(one, lists) and not pa.types.is_primitive(one.type.value_type):
        items = one.flatten()
        return [
            _without_bytes(items.slice(i, 1), name, rows, (*keys, i)) for i in range(len(items))
        ]
    value = one[0].as_py()
    return json.loads(value) if str(one.type) == "extension<arrow.json>" else value


def _parse(row: Any, media: Path, where: str) -> Record:
    if isinstance(row, Exception):
        raise RecordError(f"{where}: not valid JSON ({row}).")
    if not isinstance(row, dict):
        raise RecordError(f"{where}: expected an object, found {type(row).__name__}.")
    row = {name: _listed(value) for name, value in row.items()}
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
        turns = row.get("conversations")
        turns = row.get("conversation") if turns is None else turns
        if turns is None:
            raise RecordError(
                f"{where}: neither `messages` nor `conversations`; found "
                f"{', '.join(map(repr, row))}."
            )
        messages = _llava_messages(row, _turns(turns, where), media, where)
    if chosen is not None or rejected is not None:
        rejected = _answer(rejected, where)
        better = {"type": "text", "text": _answer(chosen, where)}
        messages.append({"role": "assistant", "content": [better]})
    _check_order(messages, where)
    return Record(messages, where, rejected)


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
    columns = {kind: _column(row, kind) for kind in ("image", "video")}
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
            part["path"] = _file(file, media, where)


def _column(row: dict[str, Any], kind: str) -> list[Any]:
    """The files of a row that are beside its conversation."""
    files = row.get(f"{kind}s") or row.get(kind) or []
    return files if isinstance(files, list) else [files]


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
        raise RecordError(f"{where}: unknown role {name!r}; known are {', '.join(_ROLES)}.")
    return _ROLES[name]


def _text(value: Any, where: str) -> Message:
    if not isinstance(value, str):
        raise RecordError(f"{where}: the words of a turn are {type(value).__name__}, not a string.")
    _refuse_half_characters(value, where)
    return {"type": "text", "text": value}


def _chat_message(message: dict[str, Any], media: Path, where: str) -> Message:
    role, content = _role(message.get("role"), where), _listed(message.get("content"))
    if not isinstance(content, list):
        return {"role": role, "content": [_text(content, where)]}
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            parts.append(_text(part.get("text"), where))
        elif kind in ("video", "image"):
            # Rows of `datasets` have every key; those of other kinds are None.
            file = next((part[k] for k in ("path", "url", kind) if part.get(k)), None)
            parts.append({"type": kind})
            if file is not None:
                parts[-1]["path"] = _file(file, media, where)
        else:
            raise RecordError(f"{where}: a part of type {kind!r}; known are text, video, image.")
    return {"role": role, "content": parts}


def _llava_messages(
    row: dict[str, Any], turns: list[dict[str, Any]], media: Path, where: str
) -> list[Message]:
    """`<image>` stands for the record's visual input of either kind, as in the official data."""
    videos, images = _column(row, "video"), _column(row, "image")
    if videos and images:
        raise RecordError(f"{where}: `video` and `image` in one record; use chat messages.")
    kind = "video" if videos else "image"
    left = [{"type": kind, "path": _file(file, media, where)} for file in videos or images]
    messages = []
    for turn in turns:
        role = _role(turn.get("from", turn.get("role")), where)
        text = _text(turn.get("value", turn.get("content")), where)["text"]
        tokens = _PLACEHOLDERS if role == "user" else ()
        found, text = _without_placeholders(text, tokens, where)
        if len(found) > len(left):
            raise RecordError(
                f"{where}: more placeholders ({' or '.join(_PLACEHOLDERS)}) than files."
            )
        visual, left = left[: len(found)], left[len(found) :]
        messages.append(
            {"role": role, "content": [*visual, {"type": "text", "text": text.strip()}]}
        )
    if left:
        raise RecordError(
            f"{where}: no placeholder ({' or '.join(_PLACEHOLDERS)}) for {left[0]['path']}."
        )
    return messages


def _file(name: Any, media: Path, where: str) -> str | Stored:
    if isinstance(name, Stored):
        return name
    if not isinstance(name, str):
        raise RecordError(f"{where}: the path of a video or image is {type(name).__name__}.")
    _refuse_half_characters(name, where)
    return str(media / name)


def _refuse_half_characters(text: str, where: str) -> None:
    if not is_utf8(text):
        raise RecordError(f"{where}: half a character (a lone surrogate) in {text[:40]!a}.")


def _check_order(messages: list[Message], where: str) -> None:
    """Users and assistants in turn, the last word an assistant's, and no empty answer."""
    roles = [m["role"] for m in messages if m["role"] != "system"]
    paired = roles == ["user", "assistant"] * (len(roles) // 2)
    if not roles or not paired or messages[-1]["role"] == "system":
        raise RecordError(f"{where}: turns must alternate, a user's first and an answer last.")
    for message in messages:
        words = "".join(p["text"] for p in message["content"] if p["type"] == "text")
        if message["role"] == "assistant" and not words.strip():
            raise RecordError(f"{where}: an empty answer.")
        kinds = {part["type"] for part in message["content"]}
        if message["role"] != "user" and kinds - {"text"}:
            raise RecordError(f"{where}: only users bring videos and images.")
