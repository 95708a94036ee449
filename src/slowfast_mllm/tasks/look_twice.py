"""A second look: what a first one may have missed is sampled more densely, and asked about again.

Two signals tell where to look. Small pictures of all frames, or of 1,024 of a long video, show what
comes and goes between frames that were looked at; and the evidence of the first answer tells which
of these it read. Frames that were looked at first are looked at again, among the new ones.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from slowfast_mllm.engine import DESCRIBE, Answer, Assistant, EncodedVideo
from slowfast_mllm.engine.answer import Added, Look, OnText
from slowfast_mllm.engine.answers import split_options
from slowfast_mllm.engine.frame_choice import kept_source
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.tasks.gaps import middles, unexplained
from slowfast_mllm.video import SampledVideo, VideoError
from slowfast_mllm.video.motion import SMALL
from slowfast_mllm.video.names import is_named

_MOST = 1024  # frames of which small pictures are compared
_MORE, _FEWEST = 0.5, 4  # frames that are added: of those of the first look
_BY_EVIDENCE = 0.25  # of these, at most, where the first answer read most
_SLACK = 1e-3  # seconds: spans are told to a tenth of a millisecond


def ask_twice(
    assistant: Assistant,
    video: Any,
    question: str = DESCRIBE,
    on_text: OnText | None = None,
    **options: Any,
) -> Answer:
    """Ask, look again where something was missed or read most, and ask once more.

    Args:
        video: anything that `read_video` takes.
        on_text: called with each piece of the last answer as it is made.
        **options: fields of `Sampling` and `Generation`.

    Returns:
        The last answer; `looks` tells what was looked at each time, why, and what was answered. One
        look, where nothing comes and goes between its frames and no frame stands out in evidence.

    Raises:
        VideoError: the video cannot be read, or is a memory.
        ValueError: the question is empty, or an option is wrong.
    """
    sampling, generation = split_options(options)
    if isinstance(video, EncodedVideo) or (is_named(video) and str(video).endswith(SUFFIX)):
        raise VideoError("A memory holds no frames to look at a second time; name the video.")
    video = kept_source(video)
    tells = {"evidence": True} if assistant.capabilities.evidence else {}
    heard = {"on_thought": None} if generation.on_thought is not None else {}
    first = assistant.ask(video, question, **options | tells | heard)
    began = time.perf_counter()
    bounds = {name: sampling[name] for name in ("start", "end") if name in sampling}
    how = {name: sampling[name] for name in ("frames_fps", "clip") if name in sampling}
    scan = assistant.reader.read_video(video, max_frames=_MOST, transform=SMALL, **bounds, **how)
    added = _worth_a_look(first, scan)
    spent = first.timing | {"scan": time.perf_counter() - began}
    looks = [Look(first.frame_indices, first.timestamps, first.text)]
    if not added:
        if generation.on_thought is not None and first.thought is not None:
            generation.on_thought(first.thought)
        if on_text is not None:
            on_text(first.text)
        told = first.evidence if generation.evidence else None
        return replace(first, evidence=told, timing=spent, looks=looks)
    at = sorted({*first.timestamps, *(frame.timestamp for frame in added)})
    fit = {"fit": sampling["fit"]} if "fit" in sampling else {}
    again = {name: value for name, value in options.items() if name not in sampling}
    last = assistant.ask(video, question, on_text, at=at, **how, **fit, **again)
    looks.append(Look(last.frame_indices, last.timestamps, last.text, added))
    seconds = {name: spent.get(name, 0.0) + value for name, value in last.timing.items()}
    timing = spent | seconds | {"tokens": last.timing["tokens"]}
    return replace(last, timing=timing, looks=looks, frame_choice=first.frame_choice)


def _worth_a_look(first: Answer, scan: SampledVideo) -> list[Added]:
    """Frames that the first look left out, in order of time."""
    times = scan.timestamps
    near = np.abs(times[None] - np.array(first.timestamps)[:, None]).argmin(1)
    seen = sorted({*near.tolist()})
    most = max(_FEWEST, round(_MORE * len(seen)))
    read = _beside(first, [float(times[at]) for at in seen])
    beside = middles(seen, [seen[i] for i in read], round(_BY_EVIDENCE * most))
    small = scan.frames.astype(np.float32)
    changed = unexplained(small, seen, most - len(beside))
    left = most - len(beside) - len(changed)
    changed += middles(sorted({*seen, *changed}), changed, min(left, 2 * len(changed)))
    return [
        Added(
            int(scan.frame_indices[at]),
            float(times[at]),
            "change" if at in changed else "evidence",
        )
        for at in sorted({*beside, *changed})
    ]


def _beside(first: Answer, times: list[float]) -> list[int]:
    """Which of the frames at some times lie where the evidence stands out."""
    spans = [] if first.evidence is None else first.evidence.spans
    return [
        i
        for i, at in enumerate(times)
        if any(span.start - _SLACK <= at < span.end - _SLACK for span in spans)
    ]
