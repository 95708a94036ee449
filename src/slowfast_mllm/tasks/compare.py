"""What is different between two videos: what was measured in both, and what a model says of them.

A model that reads several videos in one prompt is asked about both; any other is asked about each,
and its words stand side by side. What pixels tell for certain is measured, not asked.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from slowfast_mllm.engine import DESCRIBE, Answer, Assistant, Encoded, Request
from slowfast_mllm.engine.frame_choice import settings_of
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.tasks.cut_text import sentences, without_loops, words_of
from slowfast_mllm.tasks.facts import Facts, Stretch, measure_facts
from slowfast_mllm.tasks.likely import wordings
from slowfast_mllm.tasks.results import Clip, Frames, Part, Result, versions
from slowfast_mllm.video import VideoError, VideoInfo
from slowfast_mllm.video.names import is_named, short_name

# What is less than this is no difference: seconds of length, seconds of a cut's time or of black
# and frozen picture in all, and brightness.
_LENGTH, _SECONDS, _BRIGHTNESS = 0.1, 0.5, 0.05
_LISTED = 8  # times that are told; the rest is counted


class Aspect(Part):
    """Something that was read from the files or measured in the pictures of both."""

    name: str
    """Length, picture, sound, cuts, camera, fades, black, frozen or brightness."""
    first: str
    """Of the first video, in words."""
    second: str
    """Of the second."""
    differs: bool | None
    """Null: the pictures do not tell."""


class Comparison(Result):
    """Two videos side by side."""

    other: Clip
    """The second video."""
    other_frames: Frames
    """What was looked at of the second video."""
    aspects: list[Aspect]
    """Measured, or as the files say it; no model was asked."""
    facts: list[Facts] | None
    """All that was measured, in the first and in the second; null: it was not."""
    question: str
    """What the model was asked."""
    by: Literal["both in one prompt", "each by itself"]
    """How: models that take one video at a time are asked about each."""
    answer: str | None
    """What the model said about both; null where it was asked about each."""
    said: list[str] | None
    """What it said of the first and of the second; null where it was asked about both at once."""
    said_of_both: list[str]
    """Sentences that it said of each of them."""


def compare_videos(
    assistant: Assistant,
    video: Any,
    other: Any,
    question: str | None = None,
    words_only: bool = False,
    max_new_tokens: int = 256,
    measuring: Callable[..., Facts] = measure_facts,
    **sampling: Any,
) -> Comparison:
    """Say what is different between two videos.

    Args:
        video, other: anything that `read_video` takes, or memories.
        question: what the model is asked about both or, where it takes one video at a time, about
            each. None: what is different, or what happens.
        words_only: ask the model, and do not look at every frame for cuts, camera and light.
        max_new_tokens: the longest answer.
        measuring: what measures one of them: `measure_facts`, or the same done elsewhere.
        **sampling: fields of `Sampling`, for both.

    Raises:
        VideoError: one of them cannot be read.
        ValueError: the question is empty, or the model reads none.
    """
    videos = [v.read() if hasattr(v, "read") else v for v in (video, other)]
    began = time.perf_counter()
    seen = [assistant.encode(v, **sampling) for v in videos]
    looked = time.perf_counter()
    together = assistant.capabilities.several_videos
    if question is None:
        question = wordings()["compare"] if together else DESCRIBE
    told = _asked(assistant, seen, question, together, max_new_tokens)
    answered = time.perf_counter()
    facts, warnings = (None, []) if words_only else _measured(videos, sampling, measuring)
    clips = [Clip.of(v.info) for v in seen]
    frames = [Frames(indices=v.frame_indices, timestamps=v.timestamps) for v in seen]
    return Comparison(
        model=assistant.name,
        software=versions(),
        video=clips[0],
        other=clips[1],
        frames=frames[0],
        other_frames=frames[1],
        settings={
            "words_only": words_only,
            "max_new_tokens": max_new_tokens,
            **sampling,
            **settings_of(seen[0].frame_choice),
            **{f"other_{k}": v for k, v in settings_of(seen[1].frame_choice).items()},
        },
        timing={
            "look": looked - began,
            "answer": answered - looked,
            "measure": time.perf_counter() - answered,
        },
        warnings=_all_warnings(seen, facts or [], warnings),
        aspects=[*_of_files(seen), *(_of_pictures(*facts) if facts else [])],
        facts=facts,
        question=question,
        by="both in one prompt" if together else "each by itself",
        answer=told[0] if together else None,
        said=None if together else told,
        said_of_both=[] if together else _in_both(*told),
    )


def _asked(
    assistant: Assistant, seen: Sequence[Encoded], question: str, together: bool, longest: int
) -> list[str]:
    """One answer about both, or one about each."""
    about = [assistant.encode_together(seen)] if together else seen
    requests = [Request(v, question, options={"max_new_tokens": longest}) for v in about]
    answers = []
    for answer in assistant.generate(requests):
        if not isinstance(answer, Answer):
            raise answer
        answers.append(without_loops(answer.required().text))
    return answers


def _in_both(first: str, second: str) -> list[str]:
    others = {tuple(words_of(sentence)) for sentence in sentences(second)}
    return [sentence for sentence in sentences(first) if tuple(words_of(sentence)) in others]


def _measured(
    videos: Sequence[Any], sampling: dict[str, Any], measuring: Callable[..., Facts]
) -> tuple[list[Facts] | None, list[str]]:
    """Facts of both, or a line that says why there are none."""
    if sampling.get("start") is not None or sampling.get("end") is not None:
        return None, ["not measured: that is done on whole videos, and a part was asked for"]
    how = {name: sampling[name] for name in ("frames_fps", "clip") if name in sampling}
    found = []
    for video in videos:
        if is_named(video) and str(video).endswith(SUFFIX):
            return None, [f"not measured: {short_name(str(video))} is a memory, without pictures"]
        try:
            found.append(measuring(video, **how))
        except VideoError as error:
            return None, [f"not measured: {error}"]
    return found, []


def _all_warnings(
    seen: Sequence[Encoded], facts: Sequence[Facts], warnings: Sequence[str]
) -> list[str]:
    """Each once; what is said of one of them says of which."""
    told = [
        f"{which} video: {warning}"
        for which, video in zip(("first", "second"), seen, strict=True)
        for warning in video.info.warnings
    ]
    measuring = [w for fact in facts for w in fact.warnings if w.startswith("taken as one shot")]
    return list(dict.fromkeys([*told, *measuring, *warnings]))


def _of_files(seen: Sequence[Encoded]) -> list[Aspect]:
    one, other = (video.info for video in seen)

    def picture(info: VideoInfo) -> str:
        return f"{info.width}x{info.height}, {info.fps:.4g} frames a second"

    apart = abs(one.duration - other.duration) >= _LENGTH
    return [
        Aspect(
            name="length",
            first=f"{one.duration:.2f} s",
            second=f"{other.duration:.2f} s",
            differs=apart,
        ),
        _told("picture", picture, one, other),
    ]


def _of_pictures(one: Facts, other: Facts) -> list[Aspect]:
    found = [_told("sound", _sound, one, other)]
    if one.cuts is not None and other.cuts is not None:
        found.append(_cuts(one, other))
    found.append(_camera(one, other))
    found.append(_told("fades", lambda f: ", ".join(x.kind for x in f.fades) or "none", one, other))
    for name, of in (("black", _black), ("frozen", _frozen)):
        seconds = [sum(s.end - s.start for s in of(facts)) for facts in (one, other)]
        words = [_spans(of(facts)) for facts in (one, other)]
        apart = abs(seconds[0] - seconds[1]) >= _SECONDS
        found.append(Aspect(name=name, first=words[0], second=words[1], differs=apart))
    light = [facts.brightness for facts in (one, other)]
    apart = abs(light[0] - light[1]) >= _BRIGHTNESS
    first, second = (f"{level:.2f}" for level in light)
    found.append(Aspect(name="brightness", first=first, second=second, differs=apart))
    return found


def _told(name: str, words: Callable[[Any], str], one: Any, other: Any) -> Aspect:
    """What differs where its words do."""
    first, second = words(one), words(other)
    return Aspect(name=name, first=first, second=second, differs=first != second)


def _sound(facts: Facts) -> str:
    if facts.sound is None:
        return "none"
    return "to be heard" if facts.sound else "a silent track"


def _black(facts: Facts) -> list[Stretch]:
    return facts.black


def _frozen(facts: Facts) -> list[Stretch]:
    return facts.freezes


def _spans(stretches: Sequence[Stretch]) -> str:
    return _listed([f"{s.start:.2f} to {s.end:.2f} s" for s in stretches]) or "none"


def _listed(words: Sequence[str]) -> str:
    more = [f"{len(words) - _LISTED} more"] if len(words) > _LISTED else []
    return ", ".join([*words[:_LISTED], *more])


def _cuts(one: Facts, other: Facts) -> Aspect:
    times = [[cut.time for cut in facts.cuts or []] for facts in (one, other)]
    apart = len(times[0]) != len(times[1]) or any(
        abs(a - b) >= _SECONDS for a, b in zip(*times, strict=True)
    )
    first, second = (
        f"{len(at)} ({_listed([f'{t:.2f} s' for t in at])})" if at else "none" for at in times
    )
    return Aspect(name="cuts", first=first, second=second, differs=apart)


def _camera(one: Facts, other: Facts) -> Aspect:
    """By kinds and directions of its movements, in their order."""
    first, second = _movements(one), _movements(other)
    unknown = any(shot.camera is None for facts in (one, other) for shot in facts.shots)
    return Aspect(
        name="camera",
        first=_listed(first),
        second=_listed(second),
        differs=None if unknown else first != second,
    )


def _movements(facts: Facts) -> list[str]:
    found: list[str] = []
    for shot in facts.shots:
        if shot.camera is None:
            words = ["not told"]
        else:
            words = [f"{move.kind} {move.direction or ''}".strip() for move in shot.camera]
        for word in words or ["still"]:
            if found[-1:] != [word]:
                found.append(word)
    return found
