"""Which videos of a folder show something, and when; what was watched once is only asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_mllm.engine import Assistant, Encoded
from slowfast_mllm.tasks.likely import (
    YesNo,
    refuse_without_likelihoods,
    unsure_warning,
    wordings,
    yes_or_no,
)
from slowfast_mllm.tasks.memories import FolderIndex, Remembered
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, Seconds, versions
from slowfast_mllm.video.names import printable, short_name


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
    for video in index.videos.values():
        try:
            found.ask(index, video, question, threshold)
        except ValueError as error:
            found.unread[video.path] = str(error)
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
        hits=sorted(found.hits, key=lambda hit: -hit.score)[:top],
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


@dataclass
class _Found:
    """What has been found so far.

    Attributes:
        unread: videos that cannot be read, and why.
        best: the surest window.
    """

    unread: dict[str, str]
    hits: list[Hit] = field(default_factory=list)
    best: tuple[Encoded, YesNo] | None = None

    def ask(self, index: FolderIndex, video: Remembered, question: str, threshold: float) -> None:
        """About each window of a video; one memory is held at a time."""
        moments: list[Moment] = []
        for start, end in video.windows:
            seen = index.recall(video, (start, end))
            (answer,) = yes_or_no(index.assistant, seen, [question])
            score = answer.probability
            if self.best is None or score > self.best[1].probability:
                self.best = seen, answer
            if score < threshold:
                continue
            if moments and moments[-1].end == start:
                start, score = moments[-1].start, max(score, moments.pop().score)
            moments.append(Moment(start=start, end=end, score=score))
        if moments:
            surest = max(moment.score for moment in moments)
            self.hits.append(Hit(path=printable(video.path), score=surest, moments=moments))
