"""Results in the files of other programs: Parquet tables, and captions as WebVTT or SubRip.

They are made of a journal that is finished; a file appears when it is whole.
"""

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from slowfast_mllm.tasks.journal import rows
from slowfast_mllm.video.names import short_name

SUBTITLES = (".vtt", ".srt")
EXPORTS = (".parquet", *SUBTITLES)
_ROWS = 10_000  # of a table that are held at once


def check_export(output: Path, dense: bool) -> None:
    """Whether captions can become such a file: to be known before there are any.

    Raises:
        ValueError: subtitles need dense captions, Parquet needs pyarrow.
    """
    name = short_name(str(output))
    if output.suffix in SUBTITLES and not dense:
        raise ValueError(f"{name}: subtitles are made of segments with times; give --dense too.")
    if output.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"{name}: needs pyarrow; `pip install 'slowfast-mllm[parquet]'`.")


def export(journal: Path, output: Path) -> None:
    """Write what a journal holds as `output`, by its suffix.

    Subtitles of several videos are several files, in a folder of that name without suffix.

    Raises:
        OSError: it cannot be written.
    """
    if output.suffix == ".parquet":
        _whole(output, lambda path: _write_parquet(journal, path))
        return
    found = list(rows(journal))
    if len(found) == 1:
        _whole(output, lambda path: _write_subtitles(found[0], path, output.suffix))
        return
    folder = output.with_suffix("")
    folder.mkdir(exist_ok=True)
    taken: set[str] = set()
    for row in found:
        name = next(n for n in _names(row["id"]) if n not in taken)
        taken.add(name)
        write = functools.partial(_write_subtitles, row, suffix=output.suffix)
        _whole(folder / f"{name}{output.suffix}", write)


def _names(id: str) -> Iterator[str]:
    plain = re.sub(r"[^\w.-]+", "_", id).strip("._")[-100:] or "video"
    yield plain
    yield from (f"{plain}.{number}" for number in count(2))


def _whole(output: Path, write: Callable[[Path], None]) -> None:
    partial = output.with_name(output.name + ".partial")
    try:
        write(partial)
        partial.replace(output)
    except OSError as error:
        raise OSError(
            f"{short_name(str(output))}: cannot be written ({error.strerror or error}); the "
            "results are in the .jsonl: make room and give the same command again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _write_parquet(journal: Path, path: Path) -> None:
    """Columns id, video, duration, model and warnings, and those of the job: caption and segments
    (start, end, text), labels (label, probability), or memory."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    text, number = pyarrow.string(), pyarrow.float64()
    segment = pyarrow.struct({"start": number, "end": number, "text": text})
    label = pyarrow.struct({"label": text, "probability": number})
    own = {"caption": text, "segments": pyarrow.list_(segment)}
    own |= {"labels": pyarrow.list_(label), "memory": text}
    first = next(rows(journal), {})
    kinds = {"id": text, "video": text, "duration": number, "model": text}
    kinds |= {name: kind for name, kind in own.items() if name in first}
    schema = pyarrow.schema(kinds | {"warnings": pyarrow.list_(text)})
    columns = (_columns(row, schema.names) for row in rows(journal))
    with ParquetWriter(path, schema) as writer:
        while some := list(islice(columns, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))


def _columns(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    told = {"video": row["video"]["path"], "duration": row["video"]["duration"]}
    return {name: row[name] for name in names if name not in told} | told


def _write_subtitles(row: dict[str, Any], path: Path, suffix: str) -> None:
    """One cue for each segment."""
    mark = "." if suffix == ".vtt" else ","
    cues = ["WEBVTT\n"] if suffix == ".vtt" else []
    for number, segment in enumerate(row["segments"], 1):
        text = " ".join(segment["text"].split())
        if suffix == ".vtt":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        span = f"{_clock(segment['start'], mark)} --> {_clock(segment['end'], mark)}"
        cues.append(f"{number}\n{span}\n{text}\n")
    path.write_text("\n".join(cues), encoding="utf-8")


def _clock(seconds: float, mark: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
