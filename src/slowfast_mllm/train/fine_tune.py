"""Trains a model on records: alignment of the projector, instruction tuning, LoRA.

On the Trainer of transformers: accelerate's launchers, FSDP and DeepSpeed work as they do there.
Layout of an output folder: `<stage>/checkpoint-*` while a stage runs, `<stage>/model` afterwards,
`model` for the last one, and `<stage>/skipped.jsonl` for records that were left out.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import get_last_checkpoint

from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.slow_attention import SlowCrossAttention
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.assemble import assemble
from slowfast_mllm.train.conversations import Collator, Encoder, RecordDataset, draw
from slowfast_mllm.train.recipe import FineTuneRecipe, FineTuneStage, Source
from slowfast_mllm.train.records import Record, RecordError, read_records

# Which parameters a part of the model is, by their names.
PARTS = {
    "projector": "multi_modal_projector.",
    "slow": ".cross_attn.",
    "vision": "vision_tower.",
    "language_model": "",  # what is left
}


class TrainingError(RuntimeError):
    """A run that cannot start or go on, with what to do about it."""


def fine_tune(
    recipe: FineTuneRecipe, output: Path, num_workers: int = 1, save_steps: int = 200
) -> Path:
    """Run what is left of a recipe; calling it again after a kill goes on from the last checkpoint.

    Returns:
        The folder of the finished model.

    Raises:
        TrainingError: no usable record, a loss that is not a number, another recipe's folder.
        RecordError: a bad record, where the recipe says `bad_records: refuse`.
    """
    output.mkdir(parents=True, exist_ok=True)
    claim(recipe, output)
    set_seed(recipe.seed)
    finished: Path | None = None
    for stage in recipe.stages:
        folder = output / stage.name
        if not (folder / "model" / "config.json").exists():
            model, processor = _start(recipe, finished)
            _run(recipe, stage, model, processor, folder, num_workers, save_steps)
        finished = folder / "model"
    assert finished is not None
    return finished


def claim(recipe: Any, output: Path) -> None:
    """Refuse to go on with another recipe's run: its checkpoints would not fit or would mislead.

    Raises:
        TrainingError: `output` holds such a run.
    """
    record = output / "recipe.txt"
    if record.exists() and record.read_text() != repr(recipe):
        raise TrainingError(
            f"{output} holds a run of another recipe (see {record}); give another --output, or "
            "delete the folder."
        )
    record.write_text(repr(recipe))


def _start(
    recipe: FineTuneRecipe, finished: Path | None
) -> tuple[SlowFastForConditionalGeneration, SlowFastProcessor]:
    """The model of the stage before, or the one that the recipe starts from."""
    start, dtype = recipe.start, getattr(torch, recipe.dtype)
    checkpoint = finished or start.checkpoint
    if checkpoint is not None:
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype)
        return model, AutoProcessor.from_pretrained(checkpoint)
    assert start.language_model is not None
    assert start.vision_tower is not None
    model = assemble(start.language_model, start.vision_tower, dtype, **start.config)
    tokenizer = AutoTokenizer.from_pretrained(start.language_model)
    processor = SlowFastProcessor.from_config(model.config, tokenizer, recipe.num_frames)
    model.config.image_token_id = processor.image_token_id
    model.config.video_token_id = processor.video_token_id
    return model, processor


def _run(
    recipe: FineTuneRecipe,
    stage: FineTuneStage,
    model: SlowFastForConditionalGeneration,
    processor: SlowFastProcessor,
    folder: Path,
    num_workers: int,
    save_steps: int,
) -> None:
    encoder = Encoder(processor, recipe.num_frames, recipe.max_length)
    folder.mkdir(parents=True, exist_ok=True)
    train_set = RecordDataset(_records(stage.data, recipe, folder), encoder)
    eval_set = None
    if stage.eval_data:
        eval_set = RecordDataset(_records(stage.eval_data, recipe, folder), encoder)
    learner: Any = choose_parts(model, stage)
    trainer = RecordTrainer(
        model=learner,
        args=_arguments(recipe, stage, model, folder, num_workers, save_steps),
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=Collator(processor.tokenizer.pad_token_id or 0),
        callbacks=[GatherSlowPath()],
    )
    trainer.slow_learning_rate = stage.slow_learning_rate
    trainer.skipped = None if recipe.bad_records == "refuse" else folder / "skipped.jsonl"
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / "trainer_state.json").exists():  # written last: killed while saving
            shutil.rmtree(checkpoint)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    if stage.lora_rank:
        trainer.model = trainer.model.merge_and_unload()
    new = folder / "model.new"
    trainer.save_model(str(new))
    if trainer.is_world_process_zero():
        (new / "training_args.bin").unlink(missing_ok=True)  # a pickle has no place in a model
        processor.save_pretrained(new)
        new.replace(folder / "model")
    trainer.accelerator.wait_for_everyone()  # the next stage begins with this model


def _records(sources: list[Source], recipe: FineTuneRecipe, folder: Path) -> list[Record]:
    """All usable records of an epoch; bad ones are refused, or skipped and listed."""
    groups, bad = [], []
    for source in sources:
        read = list(read_records(source.path, source.media))
        bad += [str(record) for record in read if isinstance(record, RecordError)]
        good = [record for record in read if isinstance(record, Record)]
        groups.append((good, source.weight))
    if bad and recipe.bad_records == "refuse":
        raise RecordError(
            f"{bad[0]} ({len(bad)} bad records in all; see `slowfast data check`, or set "
            "`bad_records: skip`.)"
        )
    _list_skipped(folder / "skipped.jsonl", bad)
    records = draw(groups, recipe.seed)
    if not records:
        raise TrainingError(f"{', '.join(s.path for s in sources)}: not one usable record.")
    return records


def _list_skipped(file: Path, reasons: list[str]) -> None:
    if reasons:
        with file.open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in reasons)


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to."""
    return next(part for part, mark in PARTS.items() if mark in name)


def choose_parts(model: SlowFastForConditionalGeneration, stage: FineTuneStage) -> nn.Module:
    """Freeze all but the stage's parts; with LoRA the language model gets adapters."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in stage.train)
    if not stage.lora_rank:
        return model
    from peft import LoraConfig, get_peft_model

    whole = {"projector": "multi_modal_projector", "slow": "cross_attn", "vision": "vision_tower"}
    return get_peft_model(
        model,
        LoraConfig(
            r=stage.lora_rank,
            lora_alpha=2 * stage.lora_rank,
            lora_dropout=0.05,
            target_modules=r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj",
            modules_to_save=[whole[part] for part in stage.train if part in whole] or None,
            task_type="CAUSAL_LM",
        ),
    )


def sharded_classes(model: SlowFastForConditionalGeneration) -> list[str]:
    """Classes of modules that FSDP gathers one by one.

    Beside layers and blocks also what `SlowFastModel.remember` calls of a hybrid layer while the
    layer itself is not running: its norm and its slow keys and values.
    """
    layer = model.model.language_model.layers[0]
    norm = type(getattr(layer, "input_layernorm", layer))
    return [SlowCrossAttention.__name__, norm.__name__, type(layer).__name__, "ConvNextBlock"]


class GatherSlowPath(TrainerCallback):
    """Lets FSDP gather a hybrid layer's slow projections when they are called."""

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        for module in model.modules():
            if isinstance(module, SlowCrossAttention):
                register_fsdp_forward_method(module, "project")  # does nothing without FSDP


def _arguments(
    recipe: FineTuneRecipe,
    stage: FineTuneStage,
    model: SlowFastForConditionalGeneration,
    folder: Path,
    num_workers: int,
    save_steps: int,
) -> TrainingArguments:
    fsdp = recipe.fsdp
    if fsdp is not None:
        fsdp = {"transformer_layer_cls_to_wrap": sharded_classes(model), **fsdp}
    evaluation: dict[str, Any] = {}
    if stage.eval_data:
        evaluation = {"eval_strategy": "steps", "eval_steps": save_steps}
    return TrainingArguments(
        output_dir=str(folder),
        seed=recipe.seed,
        num_train_epochs=stage.epochs,
        max_steps=stage.max_steps,
        per_device_train_batch_size=stage.batch_size,
        per_device_eval_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation,
        activation_checkpointing=stage.gradient_checkpointing,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup_steps=stage.warmup,
        lr_scheduler_type="cosine",
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        fsdp="full_shard" if fsdp else "",
        fsdp_config=fsdp,
        deepspeed=recipe.deepspeed,
        ddp_find_unused_parameters=True,  # batches of text alone leave out the tower
        dataloader_num_workers=num_workers,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        logging_steps=stage.logging_steps,
        save_steps=save_steps,
        save_total_limit=2,
        report_to=["tensorboard"],
        **evaluation,
    )


class RecordTrainer(Trainer):
    """The Trainer with batches of alike records, a rate of its own for the slow path, and a list of
    what was left out."""

    slow_learning_rate: float | None = None
    skipped: Path | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        lengths = (train_dataset or self.train_dataset).lengths()
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        generator = torch.Generator().manual_seed(self.args.seed)
        return LengthGroupedSampler(size, lengths=lengths, generator=generator)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        if getattr(self, "optimizer", None) is None:
            groups = list(_groups(self.model, self.args, self.slow_learning_rate))
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        skipped, records = inputs.pop("skipped"), inputs.pop("records")
        if skipped and self.skipped is None:
            raise RecordError(f"{skipped[0]} (`bad_records: refuse`)")
        if self.skipped is not None:
            _list_skipped(self.skipped, skipped)
        if not records:  # nothing was left of this batch: a step without loss
            loss = model(**{**inputs, "labels": None}).logits.sum() * 0.0
            return (loss, None) if return_outputs else loss
        found = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        loss = found[0] if return_outputs else found
        if not torch.isfinite(loss):
            raise TrainingError(
                f"step {self.state.global_step}: the loss is {loss.item()} for {records}; the last "
                f"good checkpoint is in {self.args.output_dir}. Lower the learning rate, or look "
                "at these records."
            )
        return found


def _groups(
    model: nn.Module, arguments: TrainingArguments, slow_rate: float | None
) -> Iterator[dict[str, Any]]:
    """Parameters by learning rate and weight decay; norms, biases and gates do not decay."""
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
