"""Muon for the matrices of linear layers, AdamW for all else, as one optimizer.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), in torch's
implementation, which takes matrices only.
"""

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

ADAM_BETAS = (0.9, 0.99)


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
        muon = Muon(
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
