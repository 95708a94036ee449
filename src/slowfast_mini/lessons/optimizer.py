"""Muon for the matrices of linear layers, AdamW for all else, as one optimizer.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), in torch's
implementation, which takes matrices only.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from slowfast_mllm.model.hardware import bfloat16_is_fast

ADAM_BETAS = (0.9, 0.99)


class WideMuon(Muon):
    """torch's Muon, whose products are bfloat16 on any machine, with products in float32.

    Always with Nesterov's momentum, and rates as `match_rms_adamw` has them.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"])
                rate = 0.2 * group["lr"] * math.sqrt(max(matrix.shape))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(_orthogonal(update, group), alpha=rate)


def _orthogonal(update: Tensor, group: dict[str, Any]) -> Tensor:
    """The nearest orthogonal matrix, about, by Newton-Schulz iterations."""
    a, b, c = group["ns_coefficients"]
    tall = update.shape[0] > update.shape[1]
    found = update.T if tall else update
    found = found / found.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.T if tall else found


class MuonWithAdamW(Optimizer):
    """Both step together; the scheduler scales the rate of each."""

    def __init__(
        self, model: nn.Module, learning_rate: float, muon_learning_rate: float, weight_decay: float
    ) -> None:
        """Take all weights of `model` that learn.

        Args:
            muon_learning_rate: of matrices that are not embeddings too; comparable to that of
                AdamW (`match_rms_adamw`).
            weight_decay: of everything but vectors.
        """
        learn = [p for p in model.parameters() if p.requires_grad]
        inside = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
        inside -= {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [p for p in learn if id(p) in inside and min(p.shape) > 1]
        chosen = {id(p) for p in matrices}
        others = [p for p in learn if id(p) not in chosen]
        kind = Muon if bfloat16_is_fast(learn[0].device) else WideMuon
        muon = kind(
            matrices,
            lr=muon_learning_rate,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        decay = {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay}
        free = {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0}
        adam = AdamW([decay, free], lr=learning_rate, betas=ADAM_BETAS)
        super().__init__([{"params": matrices}, {"params": others}], {"lr": learning_rate})
        self.parts: tuple[Optimizer, ...] = (muon, adam)
        self._share_groups()

    def _share_groups(self) -> None:
        """What a scheduler writes into a group is read by the part that owns it."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
