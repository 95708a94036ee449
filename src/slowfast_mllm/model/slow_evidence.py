"""Which slow tokens a pass of the model reads: gate times attention, summed as the layers compute.

A collector is handed down beside `slow_memory` by whoever wants to know; nothing else computes it.

Letters in shapes: as in `slow_attention`.
"""

import torch
from torch import Tensor

_BLOCK = 4096  # slow tokens


class SlowEvidence:
    """The weight that positions give to slow tokens, over all hybrid layers and heads.

    Pass it as `slow_evidence` to a model's `forward`; it belongs to that pass alone.

    Attributes:
        weights: (B, G, S) float32 on the device of the first hybrid layer, of each of the groups;
            None before the pass, and after one that had no video.
    """

    def __init__(self, *groups: slice) -> None:
        """
        Args:
            groups: positions of a row whose weights are summed, e.g. `slice(-3, None)`.
        """
        self.groups = groups
        self.weights: Tensor | None = None

    @torch.no_grad()
    def add(self, query: Tensor, keys: Tensor, gate: Tensor, mask: Tensor | None) -> None:
        """What one layer reads.

        In blocks of slow tokens, so that memory does not grow with their number times that of
        positions: once over all for the sums of the softmax, once more for the weights.

        Args:
            query: (B, H, L, d) after RoPE, scaled.
            keys: (B, K, S, d).
            gate: (B, L, 1); its sign says what is done with what was read, not how much was.
            mask: (B, 1, 1, S), False at slow tokens of other rows; None: none are.
        """
        counts = torch.zeros(len(self.groups), query.shape[2], device=query.device)
        for row, group in zip(counts, self.groups, strict=True):
            row[group] = 1
        wanted = counts.any(0)
        gates = gate[:, None, wanted, 0].abs().float() * counts[:, wanted]  # (B, G, N)
        batch, heads, _, dim = query.shape
        grouped = query[:, :, wanted].reshape(batch, keys.shape[1], -1, dim).float()
        gates = gates.repeat(1, 1, heads // keys.shape[1])[:, None]  # as the grouped queries

        def scores(first: int) -> Tensor:
            block = slice(first, first + _BLOCK)
            found = grouped @ keys[:, :, block].float().transpose(-1, -2)
            if mask is None:
                return found
            return found.masked_fill(~mask[..., block].to(found.device), -torch.inf)

        blocks = range(0, keys.shape[2], _BLOCK)
        total = torch.stack([scores(first).logsumexp(-1, keepdim=True) for first in blocks])
        total = total.logsumexp(0)
        read = [(gates @ (scores(first) - total).exp()).sum(1) for first in blocks]
        weights = torch.cat(read, dim=-1)
        self.weights = (
            weights if self.weights is None else self.weights + weights.to(self.weights.device)
        )
