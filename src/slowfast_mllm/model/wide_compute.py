"""Weights in bfloat16, computed with in float32: for CPUs without instructions for bfloat16.

A model whose float32 weights would not fit is kept in bfloat16. Where the CPU cannot multiply in
it, torch does so one number at a time; here a few rows of a weight are made float32, multiplied,
and forgotten, so that the weights take half and products run at the speed of float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AT_ONCE = 2**20  # numbers of a weight; their float32 stays in the CPU's cache
# torch's product of a vector with a matrix reads bfloat16 at the speed of memory.
_FEW = 2


def compute_in_float32(model: nn.Module) -> None:
    """Let a model of bfloat16 take and give float32, in place.

    The weights of linear layers and embeddings stay as they are, the rest becomes float32.
    """
    for module in model.modules():
        kept = module.weight if type(module) in _WIDE else None
        if kept is not None:
            module.__class__ = _WIDE[type(module)]
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor is not kept and tensor.dtype == torch.bfloat16:
                tensor.data = tensor.data.float()


class _WideLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """float32 (..., in) -> (..., out)."""
        rows = input.flatten(0, -2)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return F.linear(input, self.weight.float(), self.bias)
        if len(rows) <= _FEW:
            product = F.linear(rows.to(self.weight.dtype), self.weight).float()
        else:
            product = self._in_pieces(rows)
        if self.bias is not None:
            product += self.bias
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
