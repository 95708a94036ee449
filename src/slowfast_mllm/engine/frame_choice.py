"""`num_frames="auto"`: how many frames to look at, from length, motion and the memory there is."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.video.motion import picture_change

if TYPE_CHECKING:
    import torch

    from slowfast_mllm.model import SlowFastForConditionalGeneration
    from slowfast_mllm.processing.placeholders import TokenLayout

AUTO = "auto"
# Neighbours shall differ by about so many levels of luma, of 255, at between these rates.
_STEP = 20.0
_SLOWEST, _FASTEST = 1.0, 4.0  # frames a second
_MANY = 512  # frames, over which fast tokens are counted
_SHARE = 0.5  # of the memory that is free: others need some, and estimates are estimates


@dataclass(frozen=True)
class FrameChoice:
    """How many frames were chosen, and what they were chosen from.

    Attributes:
        num_frames: max(`least`, min(`wanted`, `available`)), but no more than `most`.
        wanted: `seconds` times `rate`, rounded up.
        rate: frames a second: `change` / 20, between 1 and 4.
        seconds: length of the part that is looked at.
        change: levels of luma, of 255, by which its picture changes in a second.
        available: frames that it has.
        least: what the model is made for.
        most: what half of the free memory and half of the context hold, and `max_frames`.
        limited_by: what made it fewer: "memory", "context" or "max_frames"; None: nothing.
    """

    num_frames: int
    wanted: int
    rate: float
    seconds: float
    change: float
    available: int
    least: int
    most: int
    limited_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def settings_of(choice: FrameChoice | None) -> dict[str, Any]:
    """What results tell of it among their settings."""
    return {} if choice is None else {"frame_choice": choice.to_dict()}


@dataclass(frozen=True)
class Room:
    """What frames have to fit into.

    Attributes:
        least: frames that the model is made for.
        bytes_per_frame: of the device's memory, while one question is answered.
        tokens_per_frame: of the context.
        device: where the model is.
        context: tokens that the model can read; None: any number.
    """

    least: int
    bytes_per_frame: float
    tokens_per_frame: float
    device: torch.device
    context: int | None

    def limits(self) -> dict[str, int]:
        """Most frames by each of the limits; what is unknown limits nothing."""
        found = {}
        free = free_memory(self.device)
        if free is not None:
            found["memory"] = int(_SHARE * free / max(self.bytes_per_frame, 1.0))
        if self.context is not None:
            # Half of it: questions, answers and conversations need some, too.
            found["context"] = int(self.context / 2 / max(self.tokens_per_frame, 1e-9))
        return found


def choose_num_frames(
    video: Any,
    room: Room,
    reader: Reader,
    *,
    start: float | None,
    end: float | None,
    max_frames: int,
    **how: Any,
) -> FrameChoice:
    """How many frames to look at.

    Args:
        video: whatever `read_video` takes, but nothing that can be read only once.
        start, end: seconds, as for `read_video`.
        max_frames: never more.
        **how: `frames_fps` and `clip`, as for `read_video`.

    Raises:
        VideoError: it cannot be read.
    """
    info = reader.probe_video(video, **how)
    begin = min(start or 0.0, info.duration)
    until = info.duration if end is None else min(max(end, begin), info.duration)
    seconds = until - begin
    change = picture_change(video, info, begin, until, reader.read_video, **how)
    rate = round(min(_FASTEST, max(_SLOWEST, change / _STEP)), 3)
    wanted = math.ceil(round(seconds * rate, 3))
    share = seconds / info.duration if info.duration else 1.0
    available = max(1, math.ceil(info.num_frames * share))
    limits = {"max_frames": max_frames, **room.limits()}
    limit, most = min(limits.items(), key=lambda item: item[1])
    most = max(1, most)
    several = max(room.least, min(wanted, available))
    return FrameChoice(
        num_frames=min(several, most),
        wanted=wanted,
        rate=rate,
        seconds=round(seconds, 4),
        change=round(change, 2),
        available=available,
        least=room.least,
        most=most,
        limited_by=limit if several > most else None,
    )


def slow_fast_room(
    model: SlowFastForConditionalGeneration, layout: TokenLayout, least: int
) -> Room:
    """What frames take of a Slow-Fast model: pictures, slow tokens, their keys and values in each
    hybrid layer, and fast tokens with those of every layer."""
    config, size = model.config, model.config.frame_size
    text = config.text_config
    attention = model.model.language_model.layers[0].self_attn
    each = model.dtype.itemsize  # bytes of a number
    pair = 2 * text.num_key_value_heads * attention.head_dim * each
    slow = (size // layout.patch_size // layout.slow_spatial_pool) ** 2 + layout.num_objects
    fast = layout.video_tokens(_MANY, size, size) / _MANY
    width = text.hidden_size * each
    return Room(
        least=least,
        bytes_per_frame=3 * size**2
        + slow * (width + len(config.hybrid_layers) * pair)
        + fast * (width + text.num_hidden_layers * pair),
        tokens_per_frame=fast,
        device=model.device,
        context=getattr(text, "max_position_embeddings", None),
    )


def kept_source(video: Any) -> Any:
    """A source that can be read more than once: of a stream, its bytes."""
    return video.read() if hasattr(video, "read") else video


def free_memory(device: torch.device) -> int | None:
    """Bytes that a program can still take where a model is; None where nobody tells."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # "max" where a container has no limit of its own
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        found.append(limit - int((group / "memory.current").read_text(encoding="ascii")))
    if not found:
        with suppress(OSError, ValueError, AttributeError):  # others than Linux
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)
