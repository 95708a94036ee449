"""Slow keys and values in int8, and attention that reads them so: for CPUs that multiply int8.

A decode step about a long video waits for slow keys and values to come from memory; of int8 a
quarter comes. Every token of every head has a scale of its own. What meets them is not rounded as
far as they are: queries and attention weights are each two digits of int8, together 15 bits, which
are multiplied in one go while the slow tokens pass by. Sums are exact (int32).

Letters in shapes: as in `slow_attention`; N query rows of one key head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BASE = 254  # of a digit from -127 to 127; numbers of two go to 127 * 254
_MOST = 127 * _BASE
_ROWS = 256  # queries at a time
_SCORES = 2**19  # at a time: they stay in the cache
_LONGEST = 2**14  # slow tokens at a time; up to 133,000 their sums would fit into int32
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
    """(N, d) and (S, d), (S,) twice -> (N, d): block by block, as `_attend_in_blocks`."""
    rows = len(query)
    unit = query.abs().amax().clamp_min(_TINY) / _MOST
    digits = torch.empty(2 * rows, query.shape[1], dtype=torch.int8)
    _write_digits(query / unit, digits, torch.empty_like(query))
    block = min(len(keys), _LONGEST, _SCORES // rows)
    # Made once: fresh memory for each product costs more than the product.
    sums = torch.empty(2 * rows * block, dtype=torch.int32)
    room = torch.empty(2, rows * block)
    weights = torch.empty(2 * rows * block, dtype=torch.int8)
    tops, totals, outputs = [], [], []
    blocks = (x.split(block) for x in (keys, key_scales, values, value_scales))
    for some_keys, key_scale, some_values, value_scale in zip(*blocks, strict=True):
        width = len(some_keys)
        both = sums[: 2 * rows * width].view(2 * rows, width)
        torch._int_mm(digits, some_keys.T, out=both)
        whole = both[rows:].add_(both[:rows], alpha=_BASE)
        scores, spare = (part[: rows * width].view(rows, width) for part in room)
        torch.mul(whole, key_scale * unit, out=scores)
        tops.append(scores.amax(-1, keepdim=True))
        scores.sub_(tops[-1]).exp_()
        totals.append(scores.sum(-1, keepdim=True))
        most = value_scale.amax().clamp_min(_TINY) / _MOST
        both_weights = weights[: 2 * rows * width].view(2 * rows, width)
        _write_digits(scores.mul_(value_scale / most), both_weights, spare)
        product = torch._int_mm(both_weights, some_values).float()
        outputs.append((product[:rows] * _BASE + product[rows:]) * most)
    top = torch.stack(tops)
    share = (top - top.amax(0)).exp_()
    return (torch.stack(outputs) * share).sum(0) / (torch.stack(totals) * share).sum(0)


def _write_digits(numbers: Tensor, digits: Tensor, high: Tensor) -> None:
    """(N, M) numbers of at most `_MOST` either way -> (2 N, M) int8, high digits first.

    `high * _BASE + low` is the number, rounded. Of `numbers` and `high` nothing is left.
    """
    rows = len(numbers)
    torch.mul(numbers, 1 / _BASE, out=high).round_()
    digits[:rows] = high
    digits[rows:] = numbers.sub_(high, alpha=_BASE).round_()
