"""What can be done with very many videos: caption, classify and index them, in rows of a file.

A job is a plain value that travels to whoever has the model; the rows are the same everywhere.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from slowfast_mllm.engine import Assistant, SlowFast
from slowfast_mllm.engine.encoded_video import (
    PARTIAL,
    Precision,
    check_target,
    describe_source,
    save_encoded,
)
from slowfast_mllm.engine.frame_choice import settings_of
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks.caption import Captioning, caption_videos, fields_of, spans_of
from slowfast_mllm.tasks.classify import classify_video
from slowfast_mllm.tasks.labels import Asked
from slowfast_mllm.tasks.many import OnProgress, Outcomes, Progress, results_into
from slowfast_mllm.tasks.records import Record
from slowfast_mllm.tasks.results import Clip, Frames, Result, versions
from slowfast_mllm.video.names import is_named, localized

Spans = list[tuple[float | None, float | None]]


class Memory(Result):
    """A file that holds what a model remembers of a video."""

    memory: str
    """Its name, from the folder that the rows' file is in."""


class Job(Protocol):
    """What is done with each of very many videos."""

    made: ClassVar[str]
    """What it makes, in words: `captions`."""

    @property
    def sampling(self) -> dict[str, Any]:
        """Fields of `Sampling`."""
        ...

    def settings(self) -> dict[str, Any]:
        """On what a row depends, beside the model."""
        ...

    def spans(self, reader: Reader, record: Record) -> Spans:
        """Start and end in seconds of the parts of a video that are read; None: its own bounds.

        Raises:
            VideoError: it cannot be read.
        """
        ...

    def prepare(self) -> None:
        """What is done once before, where the rows are written.

        Raises:
            OSError: it cannot be.
        """
        ...

    def run(self, assistant: Assistant, records: Iterable[Record]) -> Outcomes:
        """Each record's fields, or the error in their place, in their order.

        Raises:
            ValueError, OSError: none can be done here: a disk is full, or the model is of another
                kind.
        """
        ...


@dataclass(frozen=True)
class Captions:
    """Say what videos show."""

    how: Captioning
    max_batch: int = 16
    made: ClassVar[str] = "captions"

    @property
    def sampling(self) -> dict[str, Any]:
        return self.how.sampling

    def settings(self) -> dict[str, Any]:
        return self.how.settings()

    def spans(self, reader: Reader, record: Record) -> Spans:
        return spans_of(reader, record, self.how)

    def prepare(self) -> None:
        pass

    def run(self, assistant: Assistant, records: Iterable[Record]) -> Outcomes:
        return fields_of(caption_videos(assistant, records, self.how, self.max_batch))


class _OneByOne:
    """A job that looks at one video after the other."""

    sampling: dict[str, Any]

    def spans(self, reader: Reader, record: Record) -> Spans:
        return [(record.start, record.end)]

    def prepare(self) -> None:
        pass

    def looked_at(self, record: Record) -> dict[str, Any]:
        """Fields of `Sampling` that were given."""
        given = self.sampling | {"start": record.start, "end": record.end}
        return {name: value for name, value in given.items() if value not in (None, False)}

    def given(self) -> dict[str, Any]:
        """The same without the bounds, which are the record's."""
        return {name: value for name, value in self.sampling.items() if value not in (None, False)}


@dataclass(frozen=True)
class Classes(_OneByOne):
    """Say how surely labels fit videos."""

    labels: list[Asked]
    single: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    made: ClassVar[str] = "classifications"

    def settings(self) -> dict[str, Any]:
        """Labels by a digest: each row lists them, the surest first."""
        asked = json.dumps([asdict(label) for label in self.labels]).encode()
        digest = hashlib.sha256(asked).hexdigest()[:16]
        return {"single": self.single, "labels": digest, **self.given()}

    def run(self, assistant: Assistant, records: Iterable[Record]) -> Outcomes:
        for record in records:
            try:
                _refuse_problem(record)
                found = classify_video(
                    assistant, record.video, self.labels, self.single, **self.looked_at(record)
                )
            except Exception as error:
                yield record, error
                continue
            chosen = {k: v for k, v in found.settings.items() if k == "frame_choice"}
            yield record, found.model_dump() | {"settings": self.settings() | chosen}


@dataclass(frozen=True)
class Memories(_OneByOne):
    """Keep what a model remembers of videos, a file each.

    Attributes:
        folder: of the files, which whoever does the job must be able to write.
    """

    folder: Path
    precision: Precision = "bfloat16"
    sampling: dict[str, Any] = field(default_factory=dict)
    made: ClassVar[str] = "memories"

    def settings(self) -> dict[str, Any]:
        return {"precision": self.precision, **self.given()}

    def prepare(self) -> None:
        """Make the folder, and remove what killed programs left in it."""
        self.folder.mkdir(exist_ok=True)
        for file in self.folder.glob(f"*{PARTIAL}"):
            file.unlink(missing_ok=True)

    def run(self, assistant: Assistant, records: Iterable[Record]) -> Outcomes:
        if not isinstance(assistant, SlowFast):
            raise ValueError(f"{assistant.name}: only Slow-Fast models keep memories in files.")
        check_target(self.folder / f"any{SUFFIX}")
        for record in records:
            try:
                _refuse_problem(record)
                video = localized(record.video)
                encoded = assistant.encode(video, **self.looked_at(record))
                there = is_named(video) and os.path.exists(video)
                source = describe_source(video) if there else None
            except Exception as error:
                yield record, error
                continue
            file = self.folder / _file_name(record)
            save_encoded(encoded, file, assistant.fingerprint, source, self.precision)
            found = Memory(
                model=assistant.name,
                software=versions(),
                video=Clip.of(encoded.info),
                frames=Frames(indices=encoded.frame_indices, timestamps=encoded.timestamps),
                settings=self.settings() | settings_of(encoded.frame_choice),
                timing=encoded.timing,
                warnings=list(encoded.info.warnings),
                memory=f"{self.folder.name}/{file.name}",
            )
            yield record, found.model_dump()


def do_here(
    job: Job,
    assistant: Assistant,
    records: Iterable[Record],
    output: Path,
    on_progress: OnProgress = lambda progress: None,
) -> Progress:
    """Do a job with a model that is loaded here; see `results_into`."""

    def outcomes(left: list[Record]) -> Outcomes:
        job.prepare()
        yield from job.run(assistant, left)

    same = {"model": assistant.name, "settings": job.settings()}
    return results_into(output, same, records, outcomes, on_progress)


def _refuse_problem(record: Record) -> None:
    if record.problem is not None:
        raise ValueError(record.problem)


def _file_name(record: Record) -> str:
    """A name that people know, and that no other record's file has."""
    known = re.sub(r"[^\w-]+", "_", Path(record.id).stem, flags=re.ASCII)[:40]
    digest = hashlib.sha256(record.id.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{known}-{digest}{SUFFIX}"
