"""What every model that answers questions about videos can be asked to do, and says it can do.

Two kinds implement it: `SlowFast`, and `TransformersModel` for models of transformers. Whoever
works with this protocol alone works with both.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slowfast_mllm.engine.answer import Answer, Likelihood, OnText
from slowfast_mllm.engine.batching import Request
from slowfast_mllm.engine.frame_choice import FrameChoice
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.video import VideoInfo


@dataclass(frozen=True)
class Capabilities:
    """What a model can do beside answering.

    Attributes:
        questions: it reads questions; a captioner only describes (`questions.DESCRIBE`).
        memory: what it saw can be kept in a file, and asked again without the video.
        evidence: it can say which parts of the video an answer read.
        several_videos: one question may be about several videos.
        streaming: an answer comes word by word.
        likelihoods: it can say how likely given answers are.
        batching: `generate` answers many requests in one pass.
    """

    questions: bool
    memory: bool
    evidence: bool
    several_videos: bool
    streaming: bool
    likelihoods: bool
    batching: bool


class Encoded(Protocol):
    """A video that was read and can be asked about any number of times; a plain value."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def frame_indices(self) -> list[int]: ...
    @property
    def timestamps(self) -> list[float]: ...
    @property
    def timing(self) -> dict[str, float]: ...
    @property
    def frame_choice(self) -> FrameChoice | None: ...


class Conversation(Protocol):
    """Turns about one video."""

    @property
    def video(self) -> Encoded: ...
    def ask(self, question: str, on_text: OnText | None = None, **generation: Any) -> Answer:
        """The next turn; `generation` are fields of `Generation`."""
        ...


class Assistant(Protocol):
    """A loaded model. `video` is whatever `read_video` takes, or what `encode` returned.

    Attributes:
        reader: of videos.
    """

    name: str
    reader: Reader

    @property
    def capabilities(self) -> Capabilities: ...
    def encode(self, video: Any, **sampling: Any) -> Encoded:
        """Read a video; `sampling` are fields of `Sampling`."""
        ...

    def encode_together(self, videos: Sequence[Any], **sampling: Any) -> Encoded:
        """Read several videos, each as for `encode`, that one question will be about; refused
        where a model takes one at a time (`Capabilities.several_videos`)."""
        ...

    def keep(self, video: Any, path: Path) -> None:
        """Write what `encode` returned into a new `.sfmem` file, which `encode` takes; refused
        where memories cannot be kept (`Capabilities.memory`)."""
        ...

    def ask(
        self, video: Any, question: str, on_text: OnText | None = None, **options: Any
    ) -> Answer:
        """Answer one question; `options` are fields of `Sampling` and `Generation`."""
        ...

    def describe(self, video: Any, on_text: OnText | None = None, **options: Any) -> Answer:
        """Say what the video shows: `ask` with `questions.DESCRIBE`."""
        ...

    def chat(self, video: Any, **sampling: Any) -> Conversation:
        """A conversation about one video, which is read once."""
        ...

    def generate(
        self, requests: Iterable[Request], max_batch: int = 8
    ) -> Iterator[Answer | Exception]:
        """Answer many requests, in their order; an error in the place of an answer that failed."""
        ...

    def likelihoods(
        self, video: Any, question: str, answers: Sequence[str], **sampling: Any
    ) -> list[Likelihood]:
        """How likely each of the answers is, after the question; the video is looked at once."""
        ...

    def likelihoods_each(
        self, video: Any, questions: Sequence[str], answers: Sequence[str], **sampling: Any
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, of the same answers to each of several questions: a list for each."""
        ...

    def likelihoods_about(
        self, videos: Sequence[Any], question: str, answers: Sequence[str]
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, about each of several videos that `encode` returned: a list for
        each."""
        ...


def one_at_a_time(name: str) -> ValueError:
    """What a model says to several videos that it was not made for."""
    return ValueError(
        f"{name}: takes one video at a time; ask about each, or choose a model that takes several, "
        "e.g. one of the Qwen-VL family (`slowfast models`)."
    )
