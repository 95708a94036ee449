"""Slow keys and values in int8, and attention that reads them so: for CPUs that multiply int8.

A decode step about a long video waits for slow keys and values to come from memory; of int8 a
quarter comes. Every token of every head has a scale of its own. What meets them is not rounded as
far as they are: queries and attention weights are each two digits of int8, together 15 bits, which
are multiplied in one go while the slow tokens pass by (sums are exact, int32); the weights of a
decode step are bfloat16.

Letters in shapes: as in `slow_attention`; N query rows of one key head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BASE = 254  # of a digit from -127 to 127; numbers of two go to 127 * 254
_MOST = 127 * _BASE
_ROWS = 256  # queries at a time
_SCORES = 2**19  # at a time: they stay in the cache
_LONGEST = 2**14  # slow tokens at a time; up to 133,000 their sums would fit into int32
_FEW = 8  # queries of a decode step: the heads that share a key head
_STEP = 16  # of what `_weight_int8pack_mm` reads at a time
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class NarrowSlow:
    """Slow keys or values of a layer: `whole * scale`.

    Attributes:
        whole: (..., K, S, d) int8.
        scale: (..., K, S, 1) float32, of numbers that bfloat16 has.
    """

    whole: Tensor
    scale: Tensor

    @classmethod
    def of(cls, slow: Tensor) -> "NarrowSlow":
        """From (..., K, S, d) of any floating dtype."""
        # As files keep it: what is rounded afterwards would not fit the scale.
        scale = slow.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / 127
        scale = scale.bfloat16().float()
        return cls((slow / scale).round_().to(torch.int8), scale)

    def by_channel(self) -> "NarrowSlow":
        """The same, each channel's tokens in one piece, as few rows of weights want values."""
        if self.whole.stride(-2) == 1:
            return self
        *outer, tokens, channels = self.whole.shape
        padded = self.whole.new_zeros(*outer, channels, tokens + -tokens % _STEP)
        padded[..., :tokens] = self.whole.transpose(-1, -2)
        return NarrowSlow(padded.transpose(-1, -2)[..., :tokens, :], self.scale)

    @property
    def shape(self) -> torch.Size:
        """Of what it stands for."""
        return self.whole.shape

    @property
    def nbytes(self) -> int:
        return self.whole.nbytes + self.scale.nbytes

    def widened(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return (self.whole * self.scale).to(dtype)

    def to(self, *args: Any, **kwargs: Any) -> "Tensor | NarrowSlow":
        """On another device (as `Tensor.to`), where it is wide unless that is a CPU."""
        scale = self.scale.to(*args, **kwargs)
        if scale.device.type != "cpu":
            return self.widened().to(*args, **kwargs)
        return NarrowSlow(self.whole.to(scale.device), scale.float())

    def repeat_interleave(self, repeats: int, dim: int) -> "NarrowSlow":
        whole, scale = (x.repeat_interleave(repeats, dim) for x in (self.whole, self.scale))
        return NarrowSlow(whole, scale)


def widened(slow: Tensor | NarrowSlow) -> Tensor:
    """Slow keys or values as a tensor of floating numbers."""
    return slow.widened() if isinstance(slow, NarrowSlow) else slow


@torch.compiler.disable
@torch.no_grad()
def attend_narrow(
    query: Tensor, keys: NarrowSlow, values: NarrowSlow, lengths: Sequence[int], scale: float
) -> Tensor:
    """Attention of all queries to the first slow tokens of their row. For inference alone.

    Args:
        query: (B, K, N, d).
        keys, values: (B, K, S, d).
        lengths: slow tokens of each row, 1 to S.
        scale: of the scores.

    Returns:
        (B, K, N, d), in the dtype of `query`.
    """
    attended = torch.empty(query.shape)
    for row, length in enumerate(lengths):
        for head in range(query.shape[1]):
            here = row, head, slice(length)
            parts = (keys.whole, keys.scale[..., 0], values.whole, values.scale[..., 0])
            slow = [part[here] for part in parts]
            queries = (query[row, head].float() * scale).split(_ROWS)
            for some, place in zip(queries, attended[row, head].split(_ROWS), strict=True):
                place.copy_(_attend_rows(some, *slow))
    return attended.to(query.dtype)


def _attend_rows(
    query: Tensor, keys: Tensor, key_scales: Tensor, values: Tensor, value_scales: Tensor
) -> Tensor:
    """(N, d) and (S, d), (S,) twice -> (N, d)."""
    columns = _columns(values)
    most = value_scales.amax().clamp_min(_TINY)
    blocks = _blocks(query, keys, key_scales)
    if columns is None or len(query) > _FEW:
        return _sum_of_many(blocks, values, value_scales / most) * most
    return _sum_of_few(blocks, columns, value_scales / most) * most


@dataclass(frozen=True)
class _Block:
    """Attention weights (N, width) of the slow tokens `place`, by their own largest score.

    `weights` and `spare` are overwritten by the next block's.
    """

    place: slice
    weights: Tensor
    spare: Tensor
    top: Tensor  # (N, 1)


def _blocks(query: Tensor, keys: Tensor, key_scales: Tensor) -> Iterator[_Block]:
    """As `_attend_in_blocks`."""
    rows = len(query)
    unit = query.abs().amax().clamp_min(_TINY) / _MOST
    digits = torch.empty(2 * rows, query.shape[1], dtype=torch.int8)
    _write_digits(query / unit, digits, torch.empty_like(query))
    key_scales = key_scales * unit
    block = min(len(keys), _LONGEST, _SCORES // rows)
    # Made once: fresh memory for each product costs more than the product.
    sums = torch.empty(2 * rows * block, dtype=torch.int32)
    room = torch.empty(2, rows * block)
    for first in range(0, len(keys), block):
        place = slice(first, min(first + block, len(keys)))
        width = place.stop - first
        both = sums[: 2 * rows * width].view(2 * rows, width)
        torch._int_mm(digits, keys[place].T, out=both)
        whole = both[rows:].add_(both[:rows], alpha=_BASE)
        scores, spare = (part[: rows * width].view(rows, width) for part in room)
        torch.mul(whole, key_scales[place], out=scores)
        top = scores.amax(-1, keepdim=True)
        yield _Block(place, scores.sub_(top).exp_(), spare, top)


def _shares(tops: list[Tensor], totals: list[Tensor]) -> Tensor:
    """By what each block's weights are multiplied so that all together are 1: (blocks, N, 1)."""
    top = torch.stack(tops)
    share = (top - top.amax(0)).exp_()
    return share / (torch.stack(totals) * share).sum(0)


def _sum_of_few(blocks: Iterator[_Block], columns: Tensor, factors: Tensor) -> Tensor:
    """Values (d, padded S) by weights and factors (S,), for the few rows of a decode step: (N, d).

    Weights are bfloat16 here: the product that takes them so uses all threads for few rows.
    """
    weights = columns.new_empty(0)
    tops, totals, places = [], [], []
    for block in blocks:
        if not weights.numel():
            size = len(block.weights), columns.shape[1]
            weights = torch.zeros(size, dtype=torch.bfloat16)
        tops.append(block.top)
        totals.append(block.weights.sum(-1, keepdim=True))
        places.append(block.place)
        weights[:, block.place] = block.weights.mul_(factors[block.place])
    for place, share in zip(places, _shares(tops, totals), strict=True):
        weights[:, place].mul_(share)
    ones = torch.ones(len(columns), dtype=torch.bfloat16)
    return torch._weight_int8pack_mm(weights, columns, ones).float()


def _sum_of_many(blocks: Iterator[_Block], values: Tensor, factors: Tensor) -> Tensor:
    """Values (S, d) by weights and factors (S,): (N, d)."""
    tops, totals, sums = [], [], []
    for block in blocks:
        tops.append(block.top)
        totals.append(block.weights.sum(-1, keepdim=True))
        rows, width = block.weights.shape
        digits = torch.empty(2 * rows, width, dtype=torch.int8)
        scaled = block.weights.mul_(factors[block.place] * _MOST)
        _write_digits(scaled, digits, block.spare)
        sums.append(torch._int_mm(digits, values[block.place]))
    high, low = torch.stack(sums).float().chunk(2, dim=1)
    return ((high * _BASE + low) * _shares(tops, totals)).sum(0) / _MOST


def _columns(values: Tensor) -> Tensor | None:
    """(S, d) as `by_channel` lays them out -> (d, padded S); None: they lie otherwise."""
    step, size = values.stride()
    if step != 1 or size % _STEP or size < len(values):
        return None
    return values.as_strided((values.shape[1], size), (size, 1))


def _write_digits(numbers: Tensor, digits: Tensor, high: Tensor) -> None:
    """(N, M) numbers of at most `_MOST` either way -> (2 N, M) int8, high digits first.

    `high * _BASE + low` is the number, rounded. Of `numbers` and `high` nothing is left.
    """
    rows = len(numbers)
    torch.mul(numbers, 1 / _BASE, out=high).round_()
    digits[:rows] = high
    digits[rows:] = numbers.sub_(high, alpha=_BASE).round_()
