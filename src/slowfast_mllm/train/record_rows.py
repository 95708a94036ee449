"""Sources of records to their raw rows: JSON, JSON Lines and Parquet files, folders, data sets.

What a row means is read elsewhere.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowfast_mllm.model.whole_checkpoint import first_line
from slowfast_mllm.train.record import RecordError, Stored
from slowfast_mllm.video.names import short_name

_SUFFIXES = (".json", ".jsonl", ".parquet")
# One of these is in every record: a JSON file that is one object with it is one record.
_CONVERSATIONS = ("messages", "conversations", "conversation", "prompt", "chosen")


def rows_of(path: Path, name: str) -> Iterator[tuple[str, Any, Path]]:
    """Position, raw row and folder.

    Raises:
        RecordError: the source as a whole cannot be read.
    """
    if not name:  # Path("") is the current folder
        raise RecordError("'': not the name of a source.")
    saved = any(os.path.exists(path / f) for f in ("dataset_info.json", "dataset_dict.json"))
    if os.path.isdir(path) and not saved:
        files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES)
        if not files:
            raise RecordError(f"{name}: no .json, .jsonl or .parquet file in this folder.")
        for file in files:
            yield from rows_of(file, str(file))
    elif os.path.isfile(path) and path.suffix != ".parquet":
        for where, row in _rows_of_file(path):
            yield where, row, path.parent
    elif os.path.exists(path) or _is_hub_id(name):
        rows = _data_set(path, name)
        home = path.parent if path.suffix == ".parquet" else path if path.is_dir() else Path()
        for number, table in enumerate(rows):
            row = {
                column: _without_bytes(table[column].chunk(0), name, rows, (number, column))
                for column in table.column_names
            }
            yield f"{name}[{number}]", row, home
    else:
        raise RecordError(f"{short_name(name)}: no such file or folder.")


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and name[0] not in "./" and not name.endswith(_SUFFIXES)


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a list, or of one object a line, whichever the file is called."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    if path.suffix == ".jsonl":
        yield from _lines(text, path)
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _begins_with_a_record(text):
            yield from _lines(text, path)
            return
        raise RecordError(f"{path}: not valid JSON ({error}).") from error
    if isinstance(rows, dict) and any(key in rows for key in _CONVERSATIONS):
        rows = [rows]
    if not isinstance(rows, list):
        raise RecordError(f"{path}: expected a list of records, or one record a line.")
    for number, row in enumerate(rows):
        yield f"{path}[{number}]", row


def _lines(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:  # also a number of 5000 digits
                yield f"{path}:{number}", error


def _begins_with_a_record(text: str) -> bool:
    """Whether the first line is a whole object: the file is then JSON Lines by another name."""
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _data_set(path: Path, name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise RecordError(f"{name}: needs the package datasets; `pip install datasets`.") from error
    try:
        if path.suffix == ".parquet":
            rows = datasets.Dataset.from_parquet(str(path))
        elif path.is_dir():
            found = datasets.load_from_disk(str(path))
            rows = found["train"] if isinstance(found, datasets.DatasetDict) else found
        else:
            rows = datasets.load_dataset(name, split="train")
        return rows.with_format("arrow")  # decodes nothing, and has the columns of every format
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise RecordError(
            f"{short_name(name)}: cannot be loaded as a data set ({first_line(error)})."
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
