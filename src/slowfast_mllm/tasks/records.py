"""Which videos a job over many is about: named files, folders, and tables of them.

A table (JSON Lines, CSV, Parquet) has a column `video`, or `path`, and may have `id`, `start` and
`end` (seconds); other columns are for other programs. Names in a table are looked for in its
folder. What is wrong with a row is told of that row: the others are read.
"""

import csv
import json
import os
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_mllm.video.names import is_data_uri, localized, printable, short_name

TABLES = (".jsonl", ".csv", ".parquet")
_COLUMNS = ("id", "video", "path", "start", "end")
# Of files in a folder that are tried; pictures are not: they are frames of something.
_VIDEOS = tuple(
    f".{suffix}"
    for suffix in (
        *("3g2", "3gp", "asf", "avi", "dav", "divx", "dv", "f4v", "flv", "gif", "h264", "h265"),
        *("hevc", "ivf", "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mkv", "mov", "mp4", "mpeg", "mpg"),
        *("mts", "mxf", "nut", "obu", "ogv", "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"),
    )
)


@dataclass(frozen=True)
class Record:
    """A video that something is to be done with.

    Attributes:
        id: tells it from all others; by default the name of the video, with its span.
        start, end: bounds of the clip in seconds.
        problem: why it cannot be used; None: it can.
    """

    id: str
    video: str
    start: float | None = None
    end: float | None = None
    problem: str | None = None


def read_records(sources: Iterable[str | os.PathLike[str]]) -> list[Record]:
    """All videos of files, folders (at any depth, by name) and tables, each id once.

    Raises:
        ValueError: a folder holds no video, a table cannot be read, or there is nothing at all.
    """
    records: dict[str, Record] = {}
    for source in sources:
        for record in _records_of(source):
            if record.id not in records:
                records[record.id] = record
            elif record != records[record.id]:
                raise ValueError(
                    f"The id {short_name(record.id)!r} is given to two records; give each its own."
                )
    if not records:
        raise ValueError("There is no video to look at; name files, folders or tables of them.")
    return list(records.values())


def shard_of(records: Iterable[Record], number: int, count: int) -> list[Record]:
    """The share `number` (from 1) of `count`; a record stays in its share when others come."""
    return [r for r in records if zlib.crc32(r.id.encode(errors="replace")) % count == number - 1]


def _records_of(source: str | os.PathLike[str]) -> Iterator[Record]:
    name = os.fspath(localized(source))
    if is_data_uri(name):
        yield Record(short_name(name), name)
    elif os.path.isdir(name):
        yield from _records_of_folder(name)
    elif Path(name).suffix.lower() in TABLES:
        yield from _records_of_table(Path(name))
    else:
        yield Record(printable(name), name)  # what is not there is told as any that cannot be read


def _records_of_folder(folder: str) -> Iterator[Record]:
    found = False
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and file.lower().endswith(_VIDEOS):
                found = True
                path = os.path.join(place, file)
                yield Record(printable(path), path)
    if not found:
        raise ValueError(
            f"{short_name(folder)}: a folder without videos; if it holds the frames of one, name "
            "it in a table."
        )


def _records_of_table(path: Path) -> Iterator[Record]:
    for place, row in rows_of_table(path):
        yield record_of(place, row, path.parent)


def rows_of_table(path: Path, more: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Rows of a table, each with its place ("clips.csv:2"): a dict, or words if it cannot be read.

    Args:
        more: columns beside those of records; other ones may be left out.

    Raises:
        ValueError: the table cannot be read, or has no rows.
    """
    name, columns = short_name(str(path)), {*_COLUMNS, *more}
    rows = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()]
    found = False
    try:
        for place, row in rows(path, columns):
            found = True
            yield f"{printable(str(path))}:{place}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name}: cannot be read as UTF-8 text ({error}).") from error
    if not found:
        raise ValueError(f"{name}: a table without rows.")


def _json_lines(path: Path, columns: Collection[str]) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, f"not valid JSON ({error})"


def _csv(path: Path, columns: Collection[str]) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for row in (reader := csv.DictReader(lines)):
            yield reader.line_num, {k: v for k, v in row.items() if v not in (None, "")}


def _parquet(path: Path, columns: Collection[str]) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(
            f"{short_name(str(path))}: needs pyarrow; `pip install 'slowfast-mllm[parquet]'`."
        ) from error
    try:
        with ParquetFile(path) as table:
            wanted = [name for name in table.schema_arrow.names if name in columns]
            rows = (r for batch in table.iter_batches(columns=wanted) for r in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield number, {k: v for k, v in row.items() if v is not None}
    except ArrowException as error:
        raise ValueError(f"{short_name(str(path))}: not a Parquet file ({error}).") from error


def record_of(place: str, row: Any, home: Path) -> Record:
    """A row of a table in the folder `home` as a record, or as one with a problem."""
    if not isinstance(row, dict):
        problem = row if isinstance(row, str) else "not an object with `video`"
        return Record(place, "", problem=f"{place}: {problem}.")
    video = row.get("video", row.get("path"))
    try:
        if not isinstance(video, str) or not video:
            raise ValueError("no name of a file under `video` or `path`")
        start, end = (
            None if x is None else _seconds(x) for x in (row.get("start"), row.get("end"))
        )
        name = video if is_data_uri(video) else os.path.join(home, localized(video))
    except ValueError as error:
        return Record(str(row.get("id", place)), "", problem=f"{place}: {error}.")
    span = (
        "" if start is None and end is None else f"#t={start or 0:g},{'' if end is None else end}"
    )
    return Record(str(row.get("id", f"{short_name(video)}{span}")), name, start, end)


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{short_name(repr(value))} is no number of seconds") from None
