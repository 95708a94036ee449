"""What each job of `/v1/jobs` is told, as types of which JSON Schemas are made."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from slowfast_mllm.engine import DESCRIBE, Request
from slowfast_mllm.serve.chat import DEFAULT_TOKENS
from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.serve.parts import conversation_of
from slowfast_mllm.serve.shell import Body
from slowfast_mllm.tasks import JOBS, result_type
from slowfast_mllm.tasks.labels import Asked


class Told(Body):
    """What every job is told."""

    model: str | None = None


class Job(Told):
    """What every job about one video is told."""

    video: str | dict[str, Any]
    """Id of an uploaded file, a URL, or a part as in a chat message."""


class Measured(Job):
    """Measured in pixels."""

    frames_fps: float | None = None
    """The rate of frames that have no times of their own."""
    clip: bool = False


class Looking(Body):
    """Which frames are looked at."""

    num_frames: int | Literal["auto"] | None = None
    fps: float | None = None
    max_frames: int | None = None
    at: list[float] | None = None
    """Seconds."""
    start: float | None = None
    end: float | None = None
    fit: str | None = None
    frames_fps: float | None = None
    clip: bool = False

    def looking(self) -> dict[str, Any]:
        """Fields of `Sampling`."""
        return {name: getattr(self, name) for name in Looking.model_fields}


class Looked(Job, Looking):
    """A video, and which of its frames are looked at."""


class Described(Looked):
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    num_beams: Literal[1] = 1
    look_twice: bool = False
    """Look again where the first look may have missed something, and answer once more."""
    evidence: bool = False
    """Also tell which frames the answer read, and where in them."""
    times: bool = False
    """Tell the model in words when its frames are shown."""
    facts: str | None = None
    """What is known of the video, in words that the model is told before the question."""
    form: dict[str, Any] | None = Field(None, alias="schema")
    """A JSON Schema that the answer fits."""
    stream: bool = False
    """Server-sent events: `{"text": ...}` or `{"thought": ...}` for each piece, then
    `{"answer": ...}`, the result."""

    def request(self, seen: Any, longest: int) -> Request:
        """For the model, about what it saw of the video."""
        names = (
            *("max_new_tokens", "temperature", "top_p", "seed", "stop", "evidence"),
            *("times", "facts"),
        )
        options = {name: getattr(self, name) for name in names} | {"schema": self.form}
        return Request(seen, DESCRIBE, options=options)


class Questioned(Described):
    question: str
    messages: list[dict[str, Any]] = []
    """Turns before the question, as in a chat, in words."""

    def request(self, seen: Any, longest: int) -> Request:
        """See above."""
        turn = {"role": "user", "content": self.question}
        said = conversation_of([*self.messages, turn], longest)
        if said.media:
            raise wrong("messages: the video is named under video", "messages")
        request = super().request(seen, longest)
        return replace(request, question=said.question, earlier=said.earlier)


class Captioned(Looked):
    prompt: str = DESCRIBE
    max_words: int | None = None
    dense: bool = False
    window: float = 10.0
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)


class Chosen(Looked):
    question: str
    options: list[str] = Field(min_length=2, max_length=1000)


class Classified(Looked):
    labels: list[str | Asked] | str = Field(max_length=1000)
    """Labels, some with questions of their own, or the name of a built-in list
    (`camera-motion`)."""
    single: bool = False


class Scored(Looked):
    what: str | None = None
    question: str | None = None


class Compared(Looked):
    other: str | dict[str, Any]
    """The second video, named as `video` is."""
    question: str | None = None
    words_only: bool = False
    max_new_tokens: int = Field(DEFAULT_TOKENS, ge=1)


class Grounded(Looked):
    words: str
    threshold: float = 0.5


class Searched(Told, Looking):
    videos: list[str | dict[str, Any]] = Field([], max_length=1000)
    """Each named as `video` is for other jobs; results call it so."""
    folder: str | None = None
    """In place of `videos`: a `file://` URL of a folder that the operator opened; results name
    videos by their paths within it."""
    words: str
    """As after "Does the video show", e.g. "a red star"."""
    top: int = Field(10, ge=1)
    threshold: float = Field(0.5, gt=0, lt=1)
    window: float = 10.0
    """Longest part that is remembered by itself, in seconds."""


class Eventful(Looked):
    window: float = 1.0
    prompt: str = DESCRIBE
    max_new_tokens: int = Field(128, ge=1)


ARGUMENTS: dict[str, type[Told]] = {
    "ask": Questioned,
    "caption": Captioned,
    "choose": Chosen,
    "classify": Classified,
    "compare": Compared,
    "cuts": Measured,
    "describe": Described,
    "events": Eventful,
    "facts": Measured,
    "ground": Grounded,
    "score": Scored,
    "search": Searched,
}


def listed() -> list[dict[str, Any]]:
    """Each job with the JSON Schema of its arguments and of its result."""
    return [
        {
            "id": job,
            "object": "job",
            "arguments": kind.model_json_schema(),
            "result": result_type(job).model_json_schema() if job in JOBS else None,
        }
        for job, kind in ARGUMENTS.items()
    ]


def arguments_of(job: str) -> type[Told]:
    """The type of a job's arguments.

    Raises:
        ApiError: there is no such job.
    """
    if job not in ARGUMENTS:
        raise ApiError(
            404, f"{job!r:.60}: no such job; known are {', '.join(ARGUMENTS)}", "job_not_found"
        )
    return ARGUMENTS[job]
