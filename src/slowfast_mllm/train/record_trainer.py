"""The Trainer of transformers as records need it, whatever the loss: batches of like records, rates
by part of the model, records left out by name, and what FSDP must know of the slow path.
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.slow_attention import SlowCrossAttention
from slowfast_mllm.train.conversations import IGNORED
from slowfast_mllm.train.record import RecordError
from slowfast_mllm.train.run_folder import check_finite

# The modules of each part of the model; the language model is what is left.
PARTS = {
    "projector": ("multi_modal_projector", "object_projector", "visual_position_embedding"),
    "slow": ("cross_attn",),
    "vision": ("vision_tower",),
    "objects": ("object_tower",),  # never learns: what it finds is chosen, not computed
}


def list_skipped(file: Path, reasons: list[str]) -> None:
    if reasons:
        with file.open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in reasons)


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to."""
    modules = name.split(".")
    found = (part for part, names in PARTS.items() if set(names) & set(modules))
    return next(found, "language_model")


class GroupedByLength(LengthGroupedSampler):
    """An order of its own for each epoch, the same however often the run was interrupted."""

    trainer: Trainer

    def __iter__(self) -> Iterator[int]:
        epoch = int((self.trainer.state.epoch or 0) + 1e-6)
        self.generator.manual_seed(self.trainer.args.seed + epoch)
        return super().__iter__()


class RecordTrainer(Trainer):
    """Batches of like records, a rate of its own for the slow path, a list of what was left out."""

    lengths: list[int]  # of the records of an epoch, about
    slow_learning_rate: float | None = None
    skipped: Path | None = None
    used = 0  # records that this process learned
    _update: list[str]  # records of this process in the present update
    _share: float  # what an empty batch would take from the mean over an update's batches

    def _get_train_sampler(self, train_dataset: Any = None) -> "GroupedByLength":
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        sampler = GroupedByLength(size, lengths=self.lengths, generator=torch.Generator())
        sampler.trainer = self
        return sampler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        if getattr(self, "optimizer", None) is None:
            groups = list(_groups(self.model, self.args, self.slow_learning_rate))
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(*args, **kwargs)
        self._update = [where for batch in batches for where in batch["records"]]
        filled = torch.tensor(sum(bool(b["records"]) for b in batches), device=self.args.device)
        filled = self.accelerator.reduce(filled).item()
        self._share = len(batches) * self.args.world_size / max(filled, 1)
        return batches, count

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        if norm is not None:  # DeepSpeed writes -1 for what is no number
            check_finite("gradient", norm if norm >= 0 else math.nan, self, self._update)
        return norm

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        skipped, records = inputs.pop("skipped"), inputs.pop("records")
        if skipped and self.skipped is None:
            raise RecordError(f"{skipped[0]} (`bad_records: refuse`)")
        if self.skipped is not None:
            list_skipped(self.skipped, skipped)
        if not records:  # nothing was left of this batch: a step without loss
            loss = self.empty_loss(model, inputs) * 0.0 + _touch(model)
            if not model.training:
                loss = loss * float("nan")  # an evaluation's mean leaves such batches out
            return (loss, {}) if return_outputs else loss
        self.used += len(records) if model.training else 0
        found = self.loss_of(model, inputs, return_outputs=return_outputs, **kwargs)
        loss = found[0] if return_outputs else found
        if not return_outputs:
            found = loss = loss + _touch(model)
            if model.training and kwargs.get("num_items_in_batch") is None:
                found = loss * self._share
        check_finite("loss", loss.item(), self, records)
        return found

    def empty_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """A forward pass like those of the other processes, whose own batches may not be empty."""
        words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return model(**words).logits.sum()

    def loss_of(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """Of a batch that is not empty; what a Trainer's `compute_loss` returns."""
        weights = inputs.pop("loss_weights", None)
        self.compute_loss_func = None if weights is None else partial(_weighted_loss, weights)
        return super().compute_loss(model, inputs, **kwargs)


def _weighted_loss(
    weights: torch.Tensor,
    outputs: Any,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The mean over tokens with labels, each times its weight (B, L)."""
    logits, following = outputs["logits"][:, :-1].float(), labels[:, 1:]
    each = functional.cross_entropy(
        logits.transpose(1, 2), following, ignore_index=IGNORED, reduction="none"
    )
    count = (following != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return (each * weights[:, 1:]).sum() / count


def _touch(model: nn.Module) -> torch.Tensor | float:
    """Zero, with every learning parameter in its graph.

    Text alone leaves out the projector, and a batch may be empty: without this, the other processes
    of a data-parallel run would wait for gradients that never come.
    """
    parameters = (p for p in model.parameters() if p.requires_grad)
    return sum(p.flatten()[:1].sum() * 0.0 for p in parameters if not isinstance(p, DTensor))


def _groups(
    model: nn.Module, arguments: TrainingArguments, slow_rate: float | None
) -> Iterator[dict[str, Any]]:
    """Parameters by learning rate and weight decay; vectors and single numbers do not decay."""
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for slow in (False, True):
        for decays in (False, True):
            group = [
                p
                for n, p in parameters
                if (part_of(n) == "slow") is slow and (p.ndim > 1) is decays
            ]
            if group:
                rate = slow_rate if slow and slow_rate is not None else arguments.learning_rate
                decay = arguments.weight_decay if decays else 0.0
                yield {"params": group, "lr": rate, "weight_decay": decay}


def sharded_classes(model: SlowFastForConditionalGeneration) -> list[str]:
    """Classes of modules that FSDP gathers one by one.

    Beside layers and blocks also what `SlowFastModel.remember` calls of a hybrid layer while the
    layer itself is not running: its norm and its slow keys and values.
    """
    layer = model.model.language_model.layers[0]
    norm = type(getattr(layer, "input_layernorm", layer))
    names = [SlowCrossAttention.__name__, norm.__name__, type(layer).__name__, "ConvNextBlock"]
    there = {type(module).__name__ for module in model.modules()}
    return [name for name in names if name in there]


class GatherSlowPath(TrainerCallback):
    """Lets FSDP gather a hybrid layer's slow projections when they are called."""

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        for module in model.modules():
            if isinstance(module, SlowCrossAttention):
                register_fsdp_forward_method(module, "project")  # does nothing without FSDP
