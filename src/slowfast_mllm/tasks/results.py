"""What every job gives back: one typed result, which is also its JSON and its JSON Schema."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from slowfast_mllm.video import VideoInfo

Seconds = Annotated[float, AfterValidator(lambda seconds: round(seconds, 4))]


class Part(BaseModel):
    """A piece of a result: fixed once made, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Clip(Part):
    """The video as a whole."""

    path: str
    """As given, or `<bytes>`, `<array>`, `<images>` for sources without one."""
    duration: Seconds
    """Seconds up to the end of the last frame."""
    fps: float
    """Average frames a second; 0 where unknown."""
    frames: int
    """How many are shown, each once."""

    @classmethod
    def of(cls, info: VideoInfo) -> "Clip":
        """The same facts as the reader tells them."""
        return cls(path=info.path, duration=info.duration, fps=info.fps, frames=info.num_frames)


class Frames(Part):
    """The frames that were looked at."""

    indices: list[int]
    """Positions in the order in which they are shown."""
    timestamps: list[Seconds]
    """Their seconds on the clock that a player shows."""


class Result(Part):
    """What every job tells beside its own fields. All times are seconds on a player's clock."""

    model: str | None
    """Name of the model that was asked; null where pixels were measured and none was."""
    software: dict[str, str]
    """Versions of the packages that made the result."""
    video: Clip
    """The video; the first of them where there are several."""
    frames: Frames | None
    """What was looked at; null: every frame."""
    settings: dict[str, Any]
    """The options that the result depends on."""
    timing: dict[str, Seconds]
    """Seconds that each stage took."""
    warnings: list[str]
    """One line each: what is damaged, missing or was assumed."""


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """For `Result.software`: of this library and of those that did the work."""
    return {name: version(name) for name in ("slowfast-mllm", *packages)}
