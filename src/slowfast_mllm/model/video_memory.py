"""What is kept of a video: made once, then asked any number of questions by any number of threads.

`VideoMemory` is one video or image. `MemoryBatch` lines memories up with the rows of a batch of
prompts. Both are plain values; neither knows how tokens are made or attended.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from slowfast_mllm.model.narrow_slow import NarrowSlow, widened

# Pixels or times: one tensor when all videos have the same shape, a list when they differ.
Videos = Tensor | Sequence[Tensor]
Slow = Tensor | NarrowSlow

# Values of `mm_token_type_ids`, the Hugging Face standard.
TEXT, IMAGE, VIDEO = 0, 1, 2
# Pipelines of transformers keep the first video only of each prompt in a batch.
_PIPELINE_HINT = "; prompts with several videos each need batch_size=1 in a pipeline"
_KIND_OF_TYPE: dict[int, Literal["image", "video"]] = {IMAGE: "image", VIDEO: "video"}


@dataclass(frozen=True, eq=False)
class VideoMemory:
    """All that the language model needs of one video or image; equal to itself alone.

    Attributes:
        fast_tokens: (num_fast_tokens, D), one per placeholder in the prompt.
        slow_keys, slow_values: hybrid layer -> (num_kv_heads, num_slow_tokens, head_dim); in int8
            with scales where that was chosen (`NarrowSlow`).
        timestamps: (T,) seconds, float32.
        kind: which placeholder it belongs to.
    """

    fast_tokens: Tensor
    slow_keys: Mapping[int, Slow]
    slow_values: Mapping[int, Slow]
    timestamps: Tensor
    kind: Literal["image", "video"] = "video"

    @property
    def num_frames(self) -> int:
        return self.timestamps.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held by the tensors."""
        tensors = [self.fast_tokens, *self.slow_keys.values(), *self.slow_values.values()]
        return sum(t.nbytes for t in tensors)

    @property
    def num_slow_tokens(self) -> int:
        return next((keys.shape[1] for keys in self.slow_keys.values()), 0)

    @property
    def narrow(self) -> bool:
        """Whether slow keys and values are in int8."""
        return any(isinstance(keys, NarrowSlow) for keys in self.slow_keys.values())

    def narrowed(self) -> "VideoMemory":
        """Slow keys and values in int8, a scale for each token of each head."""
        keys, values = (
            {i: s if isinstance(s, NarrowSlow) else NarrowSlow.of(s) for i, s in side.items()}
            for side in (self.slow_keys, self.slow_values)
        )
        values = {i: s.by_channel() for i, s in values.items()}
        return replace(self, slow_keys=keys, slow_values=values)

    def widened(self) -> "VideoMemory":
        """Slow keys and values as tensors of the other tokens' dtype."""
        return self._with_slow(lambda s: widened(s).to(self.fast_tokens.dtype))

    def _with_slow(self, change: Callable[[Slow], Slow]) -> "VideoMemory":
        keys = {i: change(k) for i, k in self.slow_keys.items()}
        return replace(
            self, slow_keys=keys, slow_values={i: change(v) for i, v in self.slow_values.items()}
        )

    def seen_by(self, rows: int) -> "MemoryBatch":
        """For so many rows that all ask about it: views, which take no memory and no time."""

        def views(slow: Mapping[int, Slow]) -> dict[int, Slow]:
            return {i: widened(s).expand(rows, -1, -1, -1) for i, s in slow.items()}

        fast = self.fast_tokens.expand(rows, -1, -1)
        return MemoryBatch(fast, views(self.slow_keys), views(self.slow_values), None)

    def to(self, *args: Any, **kwargs: Any) -> "VideoMemory":
        """A copy on another device or in another floating dtype (as `Tensor.to`)."""
        moved = self._with_slow(lambda slow: slow.to(*args, **kwargs))
        return replace(moved, fast_tokens=self.fast_tokens.to(*args, **kwargs))


@dataclass(frozen=True)
class MemoryBatch:
    """Memories arranged per row of a batch, padded to the longest row.

    Attributes:
        fast_tokens: (B, max_fast, D), or None when the prompt is already in the KV cache.
        slow_keys, slow_values: hybrid layer -> (B, num_kv_heads, max_slow, head_dim).
        slow_mask: (B, 1, 1, max_slow), True where a query may attend; None when all may. A row
            without video may attend its padding, whose zero values add nothing.
    """

    fast_tokens: Tensor | None
    slow_keys: Mapping[int, Slow]
    slow_values: Mapping[int, Slow]
    slow_mask: Tensor | None

    @property
    def slow_lengths(self) -> list[int]:
        """Slow tokens that each row may attend: its first ones."""
        if self.slow_mask is not None:
            return [int(length) for length in self.slow_mask.sum(-1).flatten()]
        keys = next(iter(self.slow_keys.values()))
        return [keys.shape[2]] * keys.shape[0]

    def repeat_interleave(self, repeats: int) -> "MemoryBatch":
        """Each row `repeats` times in place, for beams and several returned sequences."""

        def repeat(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.repeat_interleave(repeats, dim=0)

        return MemoryBatch(
            repeat(self.fast_tokens),
            {i: k.repeat_interleave(repeats, dim=0) for i, k in self.slow_keys.items()},
            {i: v.repeat_interleave(repeats, dim=0) for i, v in self.slow_values.items()},
            repeat(self.slow_mask),
        )

    def without_fast_tokens(self) -> "MemoryBatch":
        """For steps whose new tokens hold no placeholder."""
        return replace(self, fast_tokens=None)


def each(batch: Tensor | Sequence[Any] | None, ndim: int) -> list[Tensor]:
    """The items, of `ndim` dimensions, of a stacked tensor or of (nested) lists; none for None."""
    items: list[Tensor] = []
    for item in () if batch is None else batch:
        nested = isinstance(item, list | tuple) or item.ndim > ndim
        items += each(item, ndim) if nested else [item]
    return items


def each_video(
    pixels: Videos | None, timestamps: Videos | None, frame_mask: Videos | None
) -> list[tuple[Tensor, Tensor | None]]:
    """Frames and times of each video, without frames that only fill up a batch."""
    videos = each(pixels, 4)
    times: list[Tensor | None] = [*each(timestamps, 1)] or [None] * len(videos)
    masks: list[Tensor | None] = [*each(frame_mask, 1)] or [None] * len(videos)
    for name, given in (("video_timestamps", times), ("video_frame_mask", masks)):
        if len(given) != len(videos):
            raise ValueError(
                f"{name}: {len(given)} given for {len(videos)} videos{_PIPELINE_HINT}."
            )
    found = []
    for frames, seconds, mask in zip(videos, times, masks, strict=True):
        if mask is not None and len(mask) != len(frames):
            raise ValueError(f"video_frame_mask: {len(mask)} given for {len(frames)} frames.")
        if mask is not None and not mask.all():
            real = mask.bool().cpu()
            frames, seconds = frames[real], None if seconds is None else seconds[real]
        found.append((frames, seconds))
    return found


def pack_memories(token_types: Tensor, memories: Sequence[VideoMemory]) -> MemoryBatch:
    """Give each row of a batch the memories that its placeholders ask for.

    Args:
        token_types: (B, L) with TEXT, IMAGE or VIDEO per position; a visual input has as many
            placeholders as fast tokens. Text (e.g. a time) may stand between them.
        memories: in the order in which they appear in the prompts, row after row.

    Raises:
        ValueError: the placeholders and the fast tokens do not add up.
    """
    queues = {kind: [m for m in memories if m.kind == kind] for kind in _KIND_OF_TYPE.values()}
    rows = [_take_row(row, types, queues) for row, types in enumerate(token_types.tolist())]
    left = {kind: len(queue) for kind, queue in queues.items() if queue}
    if left:
        raise ValueError(
            "More visual inputs than placeholders in the prompts (input_ids): "
            f"{', '.join(f'{count} {kind}' for kind, count in left.items())} left over."
        )
    return pad_rows(rows, memories[0])


def _take_row(
    row: int, types: list[int], queues: dict[Literal["image", "video"], list[VideoMemory]]
) -> list[VideoMemory]:
    """The memories of one row, taken from the queues in the order of its placeholders."""
    taken: list[VideoMemory] = []
    unfilled = dict.fromkeys(queues, 0)  # placeholders that the last memory of a kind still fills
    for kind in (_KIND_OF_TYPE[t] for t in types if t != TEXT):
        if unfilled[kind] == 0:
            if not queues[kind]:
                raise ValueError(_mismatch(row, kind, "more"))
            taken.append(queues[kind].pop(0))
            unfilled[kind] = taken[-1].fast_tokens.shape[0]
        unfilled[kind] -= 1
    for kind, count in unfilled.items():
        if count:
            raise ValueError(_mismatch(row, kind, f"{count} fewer"))
    return taken


def _mismatch(row: int, kind: str, difference: str) -> str:
    return (
        f"Row {row} of the prompts (input_ids) has {difference} {kind} placeholders than the given "
        f"{kind}s have fast tokens. Expand the prompt with the processor for the same number of "
        f"frames, e.g. processor(text=..., videos=...){_PIPELINE_HINT}."
    )


def _padded(rows: list[list[Tensor]], like: Tensor) -> Tensor:
    """Rows of (K, S, d) -> (B, K, longest, d)."""
    if len(rows) == len(rows[0]) == 1:
        return rows[0][0][None]  # not a copy: it may be large
    parts = [torch.cat([like[:, :0], *row], 1) for row in rows]
    padded = pad_sequence([p.transpose(0, 1) for p in parts], batch_first=True)
    return padded.transpose(1, 2)


def pad_rows(rows: list[list[VideoMemory]], like: VideoMemory) -> MemoryBatch:
    """Concatenate each row's memories and pad rows with zeros to one length."""
    fast = [torch.cat([like.fast_tokens[:0], *(m.fast_tokens for m in row)]) for row in rows]
    layers = list(like.slow_keys)

    def slow(layer: int, name: Literal["slow_keys", "slow_values"]) -> Slow:
        found = [[getattr(m, name)[layer] for m in row] for row in rows]
        if all(isinstance(part, NarrowSlow) for row in found for part in row):
            example = getattr(like, name)[layer]
            whole = _padded([[part.whole for part in row] for row in found], example.whole)
            scale = _padded([[part.scale for part in row] for row in found], example.scale)
            return NarrowSlow(whole, scale)
        wide = [[widened(part) for part in row] for row in found]
        return _padded(wide, widened(getattr(like, name)[layer]))

    mask = None
    lengths = [sum(m.num_slow_tokens for m in row) for row in rows]
    if min(lengths) < max(lengths):
        positions = torch.arange(max(lengths), device=like.fast_tokens.device)
        limits = torch.tensor([n or max(lengths) for n in lengths], device=positions.device)
        mask = (positions < limits[:, None])[:, None, None]
    return MemoryBatch(
        pad_sequence(fast, batch_first=True),
        {i: slow(i, "slow_keys") for i in layers},
        {i: slow(i, "slow_values") for i in layers},
        mask,
    )
