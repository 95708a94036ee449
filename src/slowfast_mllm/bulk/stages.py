"""Stages of a pipeline of batches: read, encode, answer. Plain callables, as `map_batches` takes.

A batch is a mapping of columns, whose values are sequences of one length (dict of NumPy arrays, as
Ray Data gives); what comes back are the same columns and some more. Rows are told by `id`, which
may be left out where `video` tells them; `start` and `end` are seconds. What fails is told in
`error`, and the other rows go on. Where there is none, text is "" and bytes are b"".
"""

import json
import os
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_mini import WEIGHTS
from slowfast_mllm.bulk.jobs import Job
from slowfast_mllm.bulk.tries import LOADING, Ledger, guarded
from slowfast_mllm.engine import (
    DEFAULT_MODEL_NAME,
    DESCRIBE,
    Answer,
    Assistant,
    Request,
    Sampling,
    SlowFast,
    load,
)
from slowfast_mllm.engine.catalog import checkpoint_of
from slowfast_mllm.engine.encoded_video import save_encoded
from slowfast_mllm.engine.frame_choice import AUTO
from slowfast_mllm.engine.loading import load_processor
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks.records import Record
from slowfast_mllm.video import SampledVideo, VideoError, VideoInfo, probe_video, read_video
from slowfast_mllm.video.names import localized

Batch = Mapping[str, Sequence[Any]]
_SAME = ("slowfast-mllm", "torch", "transformers")  # versions, for rows to be the same
RECORD = "record"  # column that holds all of a record, whatever its names are made of


def software() -> dict[str, str]:
    """Versions on which rows depend, without what torch was built for."""
    return {name: version(name).partition("+")[0] for name in _SAME}


def model_name(model: str | None) -> str:
    """What a model that is loaded by `model` calls itself in results."""
    return (None if model is None else checkpoint_of(model)) or DEFAULT_MODEL_NAME


def as_text(record: Record) -> str:
    """A record as ASCII, also of names that are no UTF-8."""
    return json.dumps(asdict(record))


def go_to(folder: str) -> None:
    """Let relative names lead from a folder, if this machine has it."""
    if os.path.isdir(folder):
        os.chdir(folder)


def records_of(batch: Batch) -> list[Record]:
    """The records that the rows of a batch are about."""
    if RECORD in batch:
        return [Record(**json.loads(text)) for text in batch[RECORD]]
    videos = [str(video) for video in batch["video"]]
    ids = [str(id) for id in batch["id"]] if "id" in batch else videos
    spans = [
        [_seconds(value) for value in batch[name]] if name in batch else [None] * len(ids)
        for name in ("start", "end")
    ]
    return [Record(*fields) for fields in zip(ids, videos, *spans, strict=True)]


def _seconds(value: Any) -> float | None:
    """None where a table has none: NaN in NumPy's columns."""
    return None if value is None or value != value else float(value)


@dataclass(frozen=True)
class _Read:
    """What was read of a video, or why nothing was: for a process that does not read itself.

    Attributes:
        parts: by start and end in seconds.
    """

    info: VideoInfo | Exception
    parts: dict[tuple[float | None, float | None], SampledVideo | Exception]


class _Handed:
    """A reader of videos that others have read; what was not handed in, it reads itself."""

    @classmethod
    def to(cls, assistant: Assistant) -> "_Handed":
        """A model's reader from now on."""
        handed = cls()
        assistant.reader = Reader(handed.read_video, handed.probe_video)
        return handed

    def __init__(self) -> None:
        self._reads: dict[str, list[_Read]] = {}

    def take(self, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        """Reads of these records, instead of those before."""
        self._reads = {}
        for record, read in zip(records, frames, strict=True):
            if read:  # by our own `VideoReader`: as safe as what the engine itself passes on
                self._reads.setdefault(record.video, []).append(pickle.loads(read))

    def read_video(self, video: Any, **wanted: Any) -> SampledVideo:
        span = (wanted["start"], wanted["end"])
        for read in self._known(video):
            if span in read.parts:
                return _or_raise(read.parts[span])
        return read_video(video, **wanted)

    def probe_video(self, video: Any, **how: Any) -> VideoInfo:
        for read in self._known(video):
            return _or_raise(read.info)
        return probe_video(video, **how)

    def _known(self, video: Any) -> list[_Read]:
        return self._reads.get(os.fspath(video), []) if isinstance(video, str | Path) else []


def _or_raise(found: Any) -> Any:
    if isinstance(found, Exception):
        raise found
    return found


class _Stage:
    """What all stages do with a batch.

    Attributes:
        tries: whom to tell which video is looked at; see `tries`.
        empty: columns that are added, as they are where there is nothing.
    """

    empty: dict[str, Any]

    def __init__(self, tries: Ledger | None = None) -> None:
        self.tries = tries

    def __call__(self, batch: Batch) -> dict[str, Any]:
        rows = _rows(batch)
        records = records_of(batch)

        def work(numbers: list[int]) -> list[dict[str, Any]]:
            return self._work([records[n] for n in numbers], [rows[n] for n in numbers])

        def refused(why: str) -> dict[str, Any]:
            return {"error": why}

        ids = [record.id for record in records]
        made = guarded(self.tries, type(self).__name__, ids, work, refused)
        columns: dict[str, Any] = {k: v for k, v in batch.items() if k not in self.empty}
        for name, nothing in self.empty.items():
            kept = [row.get(name) or nothing for row in rows]
            values = [new.get(name, old) for new, old in zip(made, kept, strict=True)]
            columns[name] = _column(values)
        return columns

    def _work(self, records: list[Record], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """New values of each row."""
        raise NotImplementedError


def _rows(batch: Batch) -> list[dict[str, Any]]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def _column(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


class VideoReader(_Stage):
    """Adds `frames`: a video's frames in the size that a model looks at; for workers on CPUs.

    Of Slow-Fast models; others, and the choice of a number of frames (`num_frames="auto"`), need
    the model: leave this stage out, and the next ones read.
    """

    empty = {"frames": b"", "error": ""}

    def __init__(
        self,
        model: str | None = None,
        sampling: Mapping[str, Any] = {},
        job: Job | None = None,
        tries: Ledger | None = None,
    ) -> None:
        """
        Args:
            model: as for `load`; its processor alone is loaded.
            sampling: fields of `Sampling`, but `start` and `end`, which are the rows'.
            job: that the frames are for; None: each video is looked at once.

        Raises:
            ModelError: it has no processor that can be used.
            ValueError: a field is wrong.
        """
        super().__init__(tries)
        self._sampling, self._job = dict(sampling), job
        if Sampling(**self._sampling).num_frames == AUTO:
            raise ValueError("num_frames=auto: the model chooses; leave out `VideoReader`.")
        checkpoint = None if model is None else checkpoint_of(model)
        processor: Any = load_processor(checkpoint or str(WEIGHTS))
        self._processor = processor.video_processor

    def _work(self, records: list[Record], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._read(record) for record in records]

    def _read(self, record: Record) -> dict[str, Any]:
        if record.problem is not None:
            return {"error": record.problem}
        try:
            spans = [(record.start, record.end)]
            if self._job is not None:
                spans = self._job.spans(Reader(), record)
            parts = {span: self._part(record.video, span) for span in spans}
        except Exception as error:
            return {"frames": pickle.dumps(_Read(_plain(error), {})), "error": _cause(error)}
        read = [part for part in parts.values() if isinstance(part, SampledVideo)]
        first = next(iter(parts.values()))
        info = read[0].info if read else first
        found = {"frames": pickle.dumps(_Read(info, parts), protocol=5)}  # type: ignore[arg-type]
        return found if read else found | {"error": _cause(first)}

    def _part(
        self, video: str, span: tuple[float | None, float | None]
    ) -> SampledVideo | Exception:
        choice = Sampling(**self._sampling | {"start": span[0], "end": span[1]})
        fit = choice.fit or self._processor.fit
        try:
            return read_video(
                localized(video),
                **choice.wanted(int(self._processor.num_frames)),
                transform=self._processor.frame_transform(fit=fit),
            )
        except Exception as error:
            return _plain(error)


class _WithModel(_Stage):
    """A stage that has loaded a model, which looks at handed frames where there are some."""

    def __init__(
        self, model: str | None, how_loaded: Mapping[str, Any], tries: Ledger | None
    ) -> None:
        super().__init__(tries)
        self.assistant: Assistant = load(model, **how_loaded)
        self._handed = _Handed.to(self.assistant)

    def _take(self, records: list[Record], rows: list[dict[str, Any]]) -> None:
        self._handed.take(records, [row.get("frames", b"") for row in rows])


class VideoEncoder(_WithModel):
    """Adds `memory`: all that a Slow-Fast model needs of a video for any number of questions.

    It is what a `.sfmem` file holds, exactly as computed. `frames` are dropped.
    """

    empty = {"memory": b"", "error": ""}

    def __init__(
        self,
        model: str | None = None,
        sampling: Mapping[str, Any] = {},
        how_loaded: Mapping[str, Any] = {},
        tries: Ledger | None = None,
    ) -> None:
        """
        Args:
            sampling: fields of `Sampling`, the same as the `VideoReader`'s, if there is one.
            how_loaded: further arguments of `load`, e.g. `{"device": "cuda"}`.

        Raises:
            ModelError: the model cannot be loaded.
            ValueError: it keeps no memories.
        """
        super().__init__(model, how_loaded, tries)
        if not isinstance(self.assistant, SlowFast):
            raise ValueError(f"{model}: keeps no memories; leave out `VideoEncoder`.")
        self._sampling = dict(sampling)

    def __call__(self, batch: Batch) -> dict[str, Any]:
        encoded = super().__call__(batch)
        return {name: column for name, column in encoded.items() if name != "frames"}

    def _work(self, records: list[Record], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._take(records, rows)
        return [self._encode(*both) for both in zip(records, rows, strict=True)]

    def _encode(self, record: Record, row: dict[str, Any]) -> dict[str, Any]:
        if row.get("error"):
            return {}
        assert isinstance(self.assistant, SlowFast)
        bounds = {"start": record.start, "end": record.end}
        try:
            encoded = self.assistant.encode(record.video, **self._sampling | bounds)
        except Exception as error:
            return {"error": _cause(error)}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"memory{SUFFIX}"
            save_encoded(encoded, file, self.assistant.fingerprint, None, "exact")
            return {"memory": file.read_bytes()}


class Answerer(_WithModel):
    """Adds `answer`: to the row's `question`, or to one that is asked about each video.

    It looks at `memory`, or else at `frames`, or else at the video.
    """

    empty = {"answer": "", "error": ""}

    def __init__(
        self,
        question: str = DESCRIBE,
        model: str | None = None,
        sampling: Mapping[str, Any] = {},
        generation: Mapping[str, Any] = {},
        how_loaded: Mapping[str, Any] = {},
        max_batch: int = 16,
        tries: Ledger | None = None,
    ) -> None:
        """
        Args:
            question: of rows without one.
            sampling, generation: fields of `Sampling` and `Generation`.
            how_loaded: further arguments of `load`.
            max_batch: answers that are written together.

        Raises:
            ModelError: the model cannot be loaded.
        """
        super().__init__(model, how_loaded, tries)
        self._question, self._max_batch = question, max_batch
        self._sampling, self._generation = dict(sampling), dict(generation)

    def _work(self, records: list[Record], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._take(records, rows)
        asked = [number for number, row in enumerate(rows) if not row.get("error")]
        made: list[dict[str, Any]] = [{} for _ in rows]
        with tempfile.TemporaryDirectory() as folder:
            requests = [self._request(n, records[n], rows[n], Path(folder)) for n in asked]
            outcomes = self.assistant.generate(requests, self._max_batch)
            for number, outcome in zip(asked, outcomes, strict=True):
                made[number] = _told(outcome)
        return made

    def _request(self, number: int, record: Record, row: dict[str, Any], folder: Path) -> Request:
        question = str(row.get("question") or self._question)
        if row.get("memory"):
            file = folder / f"{number}{SUFFIX}"
            file.write_bytes(row["memory"])
            return Request(file, question, options=self._generation)
        bounds = {"start": record.start, "end": record.end}
        return Request(record.video, question, options=self._sampling | bounds | self._generation)


def _told(outcome: Answer | Exception) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"error": _cause(outcome)}
    return {"answer": outcome.text, "error": outcome.problem or ""}


class Worker(_Stage):
    """Does a job, and adds `result`: the fields of its row, as JSON; what the verbs send to actors.

    What is no video's fault (no room on this machine, other versions of the software, no model)
    stands in `fatal`: whoever asked should stop.
    """

    empty = {"result": "", "error": "", "fatal": ""}

    def __init__(
        self,
        job: Job,
        model: str | None = None,
        how_loaded: Mapping[str, Any] = {},
        folder: str | None = None,
        expected: Mapping[str, str] | None = None,
        tries: Ledger | None = None,
        place: str = "",
    ) -> None:
        """
        Args:
            folder: where names of videos lead from, as it does for who asked.
            expected: versions of the software there.
            place: the name of this worker, the same after it was killed and begun again.
        """
        super().__init__(tries)
        self._job, self._fatal = job, ""
        self._assistant: Assistant | None = None
        if folder is not None:
            go_to(folder)
        other = {k: v for k, v in software().items() if expected and expected[k] != v}
        if other:
            told = ", ".join(f"{k} {v} (not {expected[k]})" for k, v in other.items() if expected)
            self._fatal = f"a worker on {_host()} has {told}; install the same everywhere."
            return

        def loaded(_: list[int]) -> list[str]:
            return [self._load(model, how_loaded)]

        def killed(_: str) -> str:
            return f"a worker on {_host()} dies as it loads the model; is there memory for it?"

        (self._fatal,) = guarded(tries, LOADING, [f"worker {place}"], loaded, killed)

    def _load(self, model: str | None, how_loaded: Mapping[str, Any]) -> str:
        """Why there is no model; "": there is."""
        try:
            self._assistant = load(model, **how_loaded)
        except (ValueError, OSError, RuntimeError) as error:
            return _cause(error)
        self._handed = _Handed.to(self._assistant)
        return ""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The row's record with what became of it; other columns are left out."""
        done = super().__call__(batch)
        return {name: done[name] for name in (RECORD, *self.empty)}

    def _work(self, records: list[Record], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._assistant is None:
            return [{"fatal": self._fatal} for _ in records]
        self._handed.take(records, [row.get("frames", b"") for row in rows])
        # Errors of a reader come again from what it read, unless it died of the video.
        found = {
            record.id: {"error": row["error"]}
            for record, row in zip(records, rows, strict=True)
            if row.get("error") and not row.get("frames")
        }
        left = [record for record in records if record.id not in found]
        try:
            for record, outcome in self._job.run(self._assistant, left):
                found[record.id] = _result(outcome)
        except (ValueError, OSError, RuntimeError) as error:
            self._fatal = f"{_cause(error)} (on {_host()})"
        return [found.get(record.id, {"fatal": self._fatal}) for record in records]


def _result(outcome: dict[str, Any] | Exception) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"error": _cause(outcome), "result": ""}
    return {"result": json.dumps(outcome), "error": ""}


def _cause(error: Any) -> str:
    return str(error) or type(error).__name__


def _plain(error: Exception) -> VideoError:
    """What can travel to another process, whatever it was."""
    return VideoError(_cause(error))


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else "another machine"
