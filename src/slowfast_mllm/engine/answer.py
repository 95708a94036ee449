"""Which frames are asked for, and the answer that comes back: plain values, without torch.

What is not asked of a model that is loaded here (a memory that is asked quickly) needs these too.
"""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from slowfast_mllm.engine.evidence import Evidence
from slowfast_mllm.engine.frame_choice import AUTO, FrameChoice, settings_of
from slowfast_mllm.video import VideoInfo
from slowfast_mllm.video.fitting import Fit
from slowfast_mllm.video.names import is_utf8
from slowfast_mllm.video.sampling import require_positive

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Sampling:
    """Which frames are looked at.

    Attributes:
        num_frames: uniformly spread frames; "auto": as many as length, motion and memory suggest
            (`frame_choice`); None: what the model was made for.
        fps: frames a second instead.
        max_frames: no more by a rate, nor chosen by "auto".
        start, end: bounds of the clip in seconds.
        at: seconds instead of all these: the frame on screen at each.
        frames_fps: the rate of a folder or list of frames, which has no times of its own.
        fit: "crop" looks at the middle of each picture, "pad" at all of it between borders,
            "squash" at all of it without its aspect; None: what the model was made for.
        clip: look at the clip inside a motion photo instead of its picture.
    """

    num_frames: int | Literal["auto"] | None = None
    fps: float | None = None
    max_frames: int = 512
    start: float | None = None
    end: float | None = None
    at: Sequence[float] | None = None
    frames_fps: float | None = None
    fit: Fit | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        require_positive(max_frames=self.max_frames)
        open_ended = self.fps is not None or self.num_frames == AUTO
        if not open_ended and self.max_frames != Sampling.max_frames:
            raise ValueError("max_frames limits what fps gives; say num_frames, or fps too.")
        if self.fit not in (None, *get_args(Fit)):
            raise ValueError(
                f"fit={reprlib.repr(self.fit)}: choose one of {', '.join(get_args(Fit))}."
            )
        if isinstance(self.num_frames, str) and self.num_frames != AUTO:
            raise ValueError(
                f"num_frames={reprlib.repr(self.num_frames)} must be a whole number or {AUTO!r}."
            )
        if self.num_frames == AUTO and (self.fps is not None or self.at is not None):
            raise ValueError(
                "num_frames and fps cannot be given together, nor with at: choose one."
            )

    def settled(self, num_frames: int) -> "Sampling":
        """The same, of so many frames."""
        return replace(self, num_frames=num_frames, max_frames=Sampling.max_frames)

    def part(self) -> dict[str, Any]:
        """Arguments of `choose_num_frames`."""
        names = ("start", "end", "max_frames", "frames_fps", "clip")
        return {name: getattr(self, name) for name in names}

    def wanted(self, usual: int) -> dict[str, Any]:
        """Arguments of `read_video`; `usual` frames where nothing is said."""
        wanted = asdict(self)
        del wanted["fit"]  # is done to them afterwards
        if self.fps is None:
            wanted["max_frames"] = None  # limits what a rate would give
            if self.num_frames in (None, AUTO) and self.at is None:
                wanted["num_frames"] = usual
        return wanted


@dataclass(frozen=True)
class TokenScore:
    """A token of an answer and the logarithm of the probability that the model gave it.

    Before temperature, penalties and other processors of logits. `likeliest` are the tokens that
    were the likeliest in its place, where they were asked for.
    """

    id: int
    text: str
    log_probability: float
    likeliest: "tuple[TokenScore, ...]" = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types; `likeliest` where it was asked for."""
        told = {"id": self.id, "text": self.text, "log_probability": self.log_probability}
        others = [other.to_dict() for other in self.likeliest]
        return {**told, "likeliest": others} if others else told


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a given answer, without the end that would follow it.

    Attributes:
        log_probability: natural logarithm, summed over its tokens.
        greedy: each of its tokens is the likeliest in its place.
    """

    log_probability: float
    num_tokens: int
    greedy: bool

    @property
    def per_token(self) -> float:
        """The same for an answer of any length."""
        return self.log_probability / self.num_tokens


@dataclass(frozen=True)
class Added:
    """A frame that a second look took in: something comes and goes there between those that were
    looked at before, or the first answer read most around it."""

    index: int
    timestamp: float
    why: Literal["change", "evidence"]


@dataclass(frozen=True)
class Look:
    """One of several looks at a video: the frames, their seconds, and what was answered.

    Attributes:
        added: those that no look before had.
    """

    frame_indices: list[int]
    timestamps: list[float]
    text: str
    added: list[Added] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The fields of `--json`."""
        return {
            "answer": self.text,
            "frames": _frames(self.frame_indices, self.timestamps),
            "added": [vars(a) | {"timestamp": round(a.timestamp, 4)} for a in self.added],
        }


def _frames(indices: list[int], timestamps: list[float]) -> dict[str, Any]:
    return {"indices": indices, "timestamps": [round(t, 4) for t in timestamps]}


@dataclass(frozen=True)
class Answer:
    """An answer and how it came about; `str(answer)` is the text.

    Attributes:
        info: facts about the video.
        frame_indices, timestamps: the frames that were looked at, and their seconds.
        timing: seconds for `read`, `preprocess`, `encode` (0 for a video that was encoded before),
            `prefill` (to the first token), `decode` (the rest), and `tokens`, a count.
        scores: of all generated tokens, where they were asked for; the end of the answer and what
            made it stop among them.
        evidence: what was read of the video, where it was asked for.
        truncated: it ends because it may not be longer.
        thought: what the model said that it thinks, before it answered; None: nothing.
        data: the value of an answer that fits a schema.
        problem: why there is no answer: it ended in the middle of a thought; None: there is one.
        prompt_tokens: that were read before it, of words and video, where many are answered
            together.
        frame_choice: why so many frames were looked at, where that was left to the engine.
        told: what the model was told beside the question: "times" and "facts" (`Generation`).
        looks: each look at the video, where there may be several; the last one gave the answer.
    """

    text: str
    model: str
    info: VideoInfo
    frame_indices: list[int]
    timestamps: list[float]
    timing: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    scores: list[TokenScore] | None = None
    evidence: Evidence | None = None
    truncated: bool = False
    prompt_tokens: int = 0
    frame_choice: FrameChoice | None = None
    looks: list[Look] | None = None
    thought: str | None = None
    data: Any = None
    problem: str | None = None
    told: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen for the one who asked, and why."""
        chosen = settings_of(self.frame_choice)
        return chosen and {"num_frames": AUTO, **chosen}

    def __str__(self) -> str:
        return self.text

    def required(self) -> "Answer":
        """Itself.

        Raises:
            ValueError: it is none, and why.
        """
        if self.problem is not None:
            raise ValueError(self.problem)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The fields of `--json`."""
        info = self.info
        return {
            "answer": self.text,
            "model": self.model,
            "video": {
                "path": info.path,
                "duration": info.duration,
                "fps": info.fps,
                "frames": info.num_frames,
            },
            "frames": _frames(self.frame_indices, self.timestamps),
            **({"settings": self.settings} if self.settings else {}),
            "timing": {name: round(value, 4) for name, value in self.timing.items()},
            "warnings": self.warnings,
            **({} if self.scores is None else {"scores": [s.to_dict() for s in self.scores]}),
            **({} if self.evidence is None else {"evidence": self.evidence.to_dict()}),
            **({"told": self.told} if self.told else {}),
            **({} if self.looks is None else {"looks": [look.to_dict() for look in self.looks]}),
            **({} if self.thought is None else {"thought": self.thought}),
            **({} if self.data is None else {"data": self.data}),
            **({} if self.problem is None else {"problem": self.problem}),
        }


def checked_question(question: Any, control_tokens: Iterable[str]) -> str:
    """A question without control tokens.

    Raises:
        ValueError: it is empty, or no text that UTF-8 can write.
    """
    if not isinstance(question, str):
        raise ValueError(f"question: give words, not {type(question).__name__}.")
    if not is_utf8(question):
        raise ValueError("The question is not valid UTF-8 text; check how it was typed or piped.")
    question = without_control_tokens(question, control_tokens).strip()
    if not question:
        raise ValueError("The question is empty; ask something like 'What happens?'.")
    return question


def without_control_tokens(words: str, control_tokens: Iterable[str]) -> str:
    """Words that end no turn and stand for no video."""
    for token in control_tokens:
        words = words.replace(token, " ")
    return words
