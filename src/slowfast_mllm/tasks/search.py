"""Which videos of a folder show something, and when; what was watched once is only asked."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_mllm.engine import Assistant, Encoded
from slowfast_mllm.tasks.likely import (
    YesNo,
    refuse_without_likelihoods,
    unsure_warning,
    wordings,
    yes_or_no_about,
)
from slowfast_mllm.tasks.memories import FolderIndex
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions
from slowfast_mllm.video.names import printable, short_name

# Windows that are asked about in one pass, and bytes of their memories: of a large model, one has
# hundreds of megabytes.
_TOGETHER, _MOST_BYTES = 16, 64 << 20


class Moment(Part):
    """A part of a video, one window or several in a row, that shows what was asked for."""

    start: Seconds
    end: Seconds
    score: float
    """Of the surest of its windows: P(yes) / (P(yes) + P(no))."""


class Hit(Part):
    """A video that shows what was asked for."""

    path: str
    """Within the folder."""
    score: float
    """Of its surest moment."""
    moments: list[Moment]
    """In order of time."""


class Unread(Part):
    """A video that was not searched."""

    path: str
    error: str


class Search(Result):
    """Which videos of a folder show something. `video` and `frames` are of the surest window."""

    folder: str
    question: str
    hits: list[Hit]
    """The surest first; none where no video shows it."""
    best: float
    """The score of the surest window of all, whether it is a hit or not."""
    searched: int
    """Videos."""
    added: list[str]
    """Videos that were watched because they are new; `changed`: because they hold something else
    than the last time; `removed` are no longer there."""
    changed: list[str]
    removed: list[str]
    unread: list[Unread]
    """Videos that cannot be read."""


def search_folder(
    assistant: Assistant,
    folder: str | Path,
    words: str,
    top: int = 10,
    threshold: float = 0.5,
    window: float = 10.0,
    place: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **sampling: Any,
) -> Search:
    """Say which videos of a folder show something, and when.

    Args:
        words: as after "Does the video show", e.g. "a red star".
        top: videos to tell, at most.
        threshold: how sure the model must be, 0 to 1.
        window, place, **sampling: see `FolderIndex`.
        on_progress: called with how many videos were looked after, of how many.

    Raises:
        ValueError: the folder holds no video, none can be read, an argument is wrong, or the model
            cannot be asked like this.
        OSError: memories cannot be written.
    """
    if not words.strip():
        raise ValueError("Say in words what to look for.")
    if not 0 < threshold < 1 or top < 1:
        raise ValueError(
            f"top={top}, threshold={threshold}: give a number from 1, and one between 0 and 1."
        )
    refuse_without_likelihoods(assistant)
    index = FolderIndex(assistant, Path(folder), place, window, **sampling)
    question = wordings()["score"].format(what=words.strip())
    began = time.perf_counter()
    changes = index.update(on_progress)
    watched = time.perf_counter()
    found = _Found(dict(changes.failed))
    for some in _batches(index, found.unread):
        answers = yes_or_no_about(assistant, [part.seen for part in some], question)
        for part, answer in zip(some, answers, strict=True):
            found.add(part, answer, threshold)
    if found.best is None:
        first = next(iter(found.unread.values()))
        raise ValueError(f"{short_name(str(folder))}: no video can be read; first: {first}")
    seen, answer = found.best
    return Search(
        model=assistant.name,
        software=versions(),
        video=Clip.of(seen.info),
        frames=Frames(indices=seen.frame_indices, timestamps=seen.timestamps),
        settings={"words": words, "top": top, "threshold": threshold, **index.settings},
        timing={"index": watched - began, "likelihoods": time.perf_counter() - watched},
        warnings=[*_notes(assistant, found.unread), *unsure_warning([answer])],
        folder=printable(str(folder)),
        question=question,
        hits=found.hits[:top],
        best=answer.probability,
        searched=len(index.videos.keys() - found.unread.keys()),
        added=[printable(path) for path in changes.added],
        changed=[printable(path) for path in changes.changed],
        removed=[printable(path) for path in changes.removed],
        unread=[Unread(path=printable(p), error=error) for p, error in found.unread.items()],
    )


def _notes(assistant: Assistant, unread: dict[str, str]) -> list[str]:
    notes = []
    if not assistant.capabilities.memory:
        notes.append("this model keeps no memories: every search watches all videos again")
    if unread:
        path, error = next(iter(unread.items()))
        more = f" ({len(unread)} such videos are left out)" if len(unread) > 1 else ""
        notes.append(f"{printable(path)}: cannot be read: {error}{more}")
    return notes


@dataclass(frozen=True)
class _Window:
    """A part of a video, in seconds, as it is remembered."""

    path: str
    start: float
    end: float
    seen: Encoded


def _batches(index: FolderIndex, unread: dict[str, str]) -> Iterator[list[_Window]]:
    """All windows; few memories are held at a time. What cannot be read is put into `unread`."""
    some: list[_Window] = []
    held = 0
    for video in index.videos.values():
        for start, end in video.windows:
            try:
                some.append(_Window(video.path, start, end, index.recall(video, (start, end))))
            except ValueError as error:
                unread[video.path] = str(error)
                break
            held += index.size_of(video, (start, end))
            if len(some) == _TOGETHER or held > _MOST_BYTES or not index.keeps:
                yield some
                some, held = [], 0
    if some:
        yield some


@dataclass
class _Found:
    """What has been found so far.

    Attributes:
        unread: videos that cannot be read, and why.
        moments: of each video, by path.
        best: the surest window.
    """

    unread: dict[str, str]
    moments: dict[str, list[Moment]] = field(default_factory=dict)
    best: tuple[Encoded, YesNo] | None = None

    def add(self, window: _Window, answer: YesNo, threshold: float) -> None:
        start, score = window.start, answer.probability
        if self.best is None or score > self.best[1].probability:
            self.best = window.seen, answer
        if score < threshold:
            return
        moments = self.moments.setdefault(window.path, [])
        if moments and moments[-1].end == start:
            start, score = moments[-1].start, max(score, moments.pop().score)
        moments.append(Moment(start=start, end=window.end, score=score))

    @property
    def hits(self) -> list[Hit]:
        """The surest first."""
        hits = [
            Hit(path=printable(path), score=max(m.score for m in moments), moments=moments)
            for path, moments in self.moments.items()
        ]
        return sorted(hits, key=lambda hit: -hit.score)
