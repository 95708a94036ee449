"""Weights in bfloat16, computed with in float32: for CPUs without instructions for bfloat16.

A model whose float32 weights would not fit is kept in bfloat16. Where the CPU cannot multiply in
it, torch does so one number at a time; here a few rows of a weight are made float32, multiplied,
and forgotten, so that the weights take half and products run at the speed of float32. A single
row, as in a decode step, is rounded to bfloat16: torch's product of a vector reads the weights as
they are, at the speed of memory. With gradients the float32 weights stay until the backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AT_ONCE = 2**20  # numbers of a weight; their float32 stays in the CPU's cache


def compute_in_float32(model: nn.Module) -> None:
    """Let a model of bfloat16 take and give float32, in place.

    The weights of linear layers and embeddings stay as they are, the rest becomes float32. A model
    that is mostly something else (experts) is left alone: it would take twice its memory; that of
    convolutions is a tower's, and small.
    """
    weights: list[Any] = [module.weight for module in model.modules() if type(module) in _WIDE]
    kept = {id(weight): weight.numel() for weight in weights}
    convolutions = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d)]
    narrow = [p.numel() for p in model.parameters() if p.dtype == torch.bfloat16]
    if sum(kept.values()) + sum(convolutions) < sum(narrow) / 2:
        return
    for module in model.modules():
        module.__class__ = _WIDE.get(type(module), type(module))
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if id(tensor) not in kept and tensor.dtype == torch.bfloat16:
                tensor.data = tensor.data.float()


class _WideLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out) in float32."""
        rows = input.float().reshape(-1, self.in_features)
        if torch.is_grad_enabled():
            product = rows @ self.weight.float().T
        elif len(rows) == 1:
            product = F.linear(rows.to(self.weight.dtype), self.weight).float()
        elif torch.compiler.is_compiling():  # one piece: a graph would have each of them
            product = rows @ self.weight.float().T
        else:
            product = self._in_pieces(rows)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*input.shape[:-1], self.out_features)

    def _in_pieces(self, rows: Tensor) -> Tensor:
        product = rows.new_empty(len(rows), self.out_features)
        size = max(1, _AT_ONCE // self.in_features)
        room = rows.new_empty(min(size, self.out_features), self.in_features)
        for first in range(0, self.out_features, size):
            part = self.weight[first : first + size]
            wide = room[: len(part)].copy_(part)
            product[:, first : first + size] = rows @ wide.T
        return product


class _WideEmbedding(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        """Ids -> float32."""
        return super().forward(input).float()


_WIDE: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _WideLinear,
    nn.Embedding: _WideEmbedding,
}
