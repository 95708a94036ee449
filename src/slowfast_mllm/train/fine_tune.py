"""Trains a model on records: alignment of the projector, instruction tuning, LoRA.

On the Trainer of transformers: accelerate's launchers, FSDP and DeepSpeed work as they do there.
Layout of an output folder: `<stage>/checkpoint-*` (the last two), `<stage>/model` when a stage is
done, and `<stage>/skipped.jsonl` for records that were left out.
"""

import copy
import gc
import hashlib
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    TrainingArguments,
    set_seed,
)

from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.adapters import LORA_TARGETS
from slowfast_mllm.model.hardware import bfloat16_is_fast
from slowfast_mllm.model.whole_checkpoint import load_whole
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.assemble import assemble, pixel_statistics, read_object
from slowfast_mllm.train.conversations import (
    Collator,
    Encoder,
    PreferenceCollator,
    PreferenceEncoder,
    RecordDataset,
    draw,
)
from slowfast_mllm.train.recipe import FineTuneRecipe, FineTuneStage, Source
from slowfast_mllm.train.record import Record, RecordError
from slowfast_mllm.train.record_trainer import (
    PARTS,
    GatherSlowPath,
    RecordTrainer,
    list_skipped,
    part_of,
    sharded_classes,
)
from slowfast_mllm.train.records import read_records
from slowfast_mllm.train.reinforce import PromptCollator, PromptEncoder, ReinforceTrainer
from slowfast_mllm.train.run_folder import (
    TrainingError,
    check_devices,
    claim,
    full_disk_told,
    last_checkpoint,
)

_log = logging.getLogger(__name__)
_FIRST = os.environ.get("RANK", "0") == "0"  # of the processes of a run, the one that keeps lists


def fine_tune(
    recipe: FineTuneRecipe, output: Path, num_workers: int = 1, save_steps: int = 200
) -> Path:
    """Run what is left of a recipe; calling it again after a kill goes on from the last checkpoint.

    Returns:
        The folder of the finished model.

    Raises:
        TrainingError: no usable record, nothing to start from, a loss that is not a number, another
            recipe's folder.
        RecordError: a bad record, where the recipe says `bad_records: refuse`.
        AssemblyError: parts that do not make a model, or no DeepSpeed configuration.
    """
    check_devices()
    if recipe.deepspeed is not None:  # transformers would not say what it cannot read
        read_object(Path(recipe.deepspeed))
    output.mkdir(parents=True, exist_ok=True)
    claim(recipe, output)
    finished: Path | None = None
    for stage in recipe.stages:
        folder = output / stage.name
        if not (folder / "model" / "config.json").exists():
            set_seed(recipe.seed)  # for each stage: one that is gone on with starts alike
            model, processor = _start(recipe, finished)
            if recipe.fit is not None:
                processor.video_processor.fit = recipe.fit  # that of images, too
            _run(recipe, stage, model, processor, folder, num_workers, save_steps)
            del model
            gc.collect()  # the Trainer holds the model in a circle
        finished = folder / "model"
    assert finished is not None
    return finished


def _start(
    recipe: FineTuneRecipe, finished: Path | None
) -> tuple[SlowFastForConditionalGeneration, SlowFastProcessor]:
    """The model of the stage before, or the one that the recipe starts from."""
    start, dtype = recipe.start, getattr(torch, recipe.dtype)
    checkpoint = finished or start.checkpoint
    if checkpoint is not None:
        try:
            model = load_whole(str(checkpoint), dtype=dtype)
        except ValueError as error:
            raise TrainingError(f"{checkpoint}: cannot be started from ({error}).") from error
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
        processor.video_processor.num_frames = recipe.num_frames
        return model, processor
    assert start.language_model is not None
    assert start.vision_tower is not None
    parts = start.language_model, start.vision_tower, dtype, start.object_tower
    model = assemble(*parts, **start.config)
    tokenizer = AutoTokenizer.from_pretrained(start.language_model, trust_remote_code=False)
    processor = SlowFastProcessor.from_config(model.config, tokenizer, recipe.num_frames)
    for name, value in pixel_statistics(start.vision_tower).items():
        setattr(processor.image_processor, name, value)
        setattr(processor.video_processor, name, value)
    model.config.image_token_id = processor.image_token_id
    model.config.video_token_id = processor.video_token_id
    end = tokenizer("<|im_end|>", add_special_tokens=False).input_ids
    if len(end) != 1:
        raise TrainingError(
            f"{start.language_model}: its tokenizer has no token <|im_end|>, with which answers "
            "end in ChatML; use a language model that has it, e.g. Qwen/Qwen2-7B-Instruct."
        )
    model.generation_config.eos_token_id = end
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
    encoder: Any = Encoder(processor, recipe.num_frames, recipe.max_length)
    pad = processor.tokenizer.pad_token_id or 0
    collator: Any = Collator(pad)
    if stage.method == "dpo":
        encoder, collator = PreferenceEncoder(encoder), PreferenceCollator(pad)
    elif stage.method == "grpo":
        encoder, collator = PromptEncoder(encoder), PromptCollator(pad)
    folder.mkdir(parents=True, exist_ok=True)
    resumed = last_checkpoint(folder)
    skipped = folder / "skipped.jsonl"
    if resumed is None and _FIRST:  # what an earlier try left out may be there now
        skipped.unlink(missing_ok=True)
    train_set, eval_set = (
        RecordDataset(_records(sources, recipe, skipped), encoder, recipe.num_frames)
        if sources
        else None
        for sources in (stage.data, stage.eval_data)
    )
    assert train_set is not None
    _note(train_set.records, folder, resumed)
    arguments = _arguments(recipe, stage, model, folder, num_workers, save_steps)
    inputs = {
        "train_dataset": train_set,
        "eval_dataset": eval_set,
        "data_collator": collator,
        "callbacks": [GatherSlowPath()],
    }
    learner: Any = choose_parts(model, stage)
    for parameter in learner.parameters():
        if parameter.requires_grad:  # in bfloat16 small updates would vanish
            parameter.data = parameter.data.float()
    trainer: Any
    if stage.method == "dpo":
        trainer = _preference_trainer(learner, processor, stage, arguments, inputs)
    elif stage.method == "grpo":
        trainer = ReinforceTrainer(
            stage,
            processor,
            _reference(learner, stage),
            model=learner,
            args=TrainingArguments(**arguments),
            **inputs,
        )
    else:
        trainer = RecordTrainer(model=learner, args=TrainingArguments(**arguments), **inputs)
    trainer.lengths = train_set.lengths()
    trainer.slow_learning_rate = stage.slow_learning_rate
    trainer.skipped = None if recipe.bad_records == "refuse" else skipped
    with full_disk_told(folder):
        trainer.train(resume_from_checkpoint=resumed)
    used = torch.tensor(trainer.used, device=trainer.args.device)
    if resumed is None and not trainer.accelerator.reduce(used).item():
        for left in folder.glob("checkpoint-*"):  # or the next try would go on from there
            shutil.rmtree(left, ignore_errors=True)
        raise TrainingError(
            f"{folder}: nothing was learned, not one record could be used; skipped.jsonl says why."
        )
    with full_disk_told(folder):
        _save(trainer, processor, folder, getattr(torch, recipe.dtype) if stage.lora_rank else None)


def _save(
    trainer: Any, processor: SlowFastProcessor, folder: Path, merged_dtype: torch.dtype | None
) -> None:
    """Write `model`, whole or not at all; with `merged_dtype`, adapters become part of it."""
    new = folder / "model.new"
    if merged_dtype is not None:  # not by the Trainer: DeepSpeed's engine still holds the adapters
        merged = trainer.model.merge_and_unload().to(merged_dtype)
        if trainer.is_world_process_zero():
            merged.save_pretrained(new)
    else:
        trainer.save_model(str(new))
    if trainer.is_world_process_zero():
        (new / "training_args.bin").unlink(missing_ok=True)  # a pickle has no place in a model
        processor.save_pretrained(new)
        new.replace(folder / "model")
    trainer.accelerator.wait_for_everyone()  # the next stage begins with this model


def _note(records: Sequence[Record], folder: Path, resumed: str | None) -> None:
    """Tell a run that goes on with other records than it began with."""
    if not _FIRST:
        return
    file, content = folder / "records.sha256", hashlib.sha256()
    for record in records:
        content.update(repr(record).encode(errors="surrogateescape"))
    digest = content.hexdigest()
    if resumed is not None and file.exists() and file.read_text() != digest:
        _log.warning(
            "%s: its records have changed since it began; it goes on from %s with those of now, "
            "in another order.",
            folder,
            Path(resumed).name,
        )
    file.write_text(digest)


def _records(sources: list[Source], recipe: FineTuneRecipe, skipped: Path) -> list[Record]:
    """All usable records of an epoch; bad ones are refused, or left out and listed in a file."""
    groups, bad = [], []
    for source in sources:
        good = []
        for record in read_records(source.path, source.media):
            try:
                if isinstance(record, RecordError):
                    raise record
                record.check_files()
                good.append(record)
            except RecordError as error:
                bad.append(str(error))
        groups.append((good, source.weight))
    if bad and recipe.bad_records == "refuse":
        raise RecordError(
            f"{bad[0]} ({len(bad)} bad records in all; see `slowfast data check`, or set "
            "`bad_records: skip`.)"
        )
    if _FIRST:
        list_skipped(skipped, bad)
    records = draw(groups, recipe.seed)
    if not records:
        if count := sum(len(good) for good, _ in groups):
            raise TrainingError(
                f"{', '.join(s.path for s in sources)}: `weight` leaves none of {count} usable "
                "records; give a higher one."
            )
        first = f" The first one's fault: {bad[0]}" if bad else ""
        raise TrainingError(f"{', '.join(s.path for s in sources)}: not one usable record.{first}")
    return records


def choose_parts(model: SlowFastForConditionalGeneration, stage: FineTuneStage) -> nn.Module:
    """Freeze all but the stage's parts; with LoRA the language model gets adapters."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in stage.train)
    if not stage.lora_rank:
        return model
    from peft import LoraConfig, get_peft_model

    names = {name.split(".")[-1] for name, _ in model.named_modules()}
    whole = [name for part in stage.train for name in PARTS[part] if name in names]
    return get_peft_model(
        model,
        LoraConfig(
            r=stage.lora_rank,
            lora_alpha=2 * stage.lora_rank,
            lora_dropout=0.05,
            target_modules=LORA_TARGETS,
            modules_to_save=whole or None,
            task_type="CAUSAL_LM",
        ),
    )


def _arguments(
    recipe: FineTuneRecipe,
    stage: FineTuneStage,
    model: SlowFastForConditionalGeneration,
    folder: Path,
    num_workers: int,
    save_steps: int,
) -> dict[str, Any]:
    """Of TrainingArguments."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fsdp = recipe.fsdp
    if fsdp is not None:
        fsdp = {"transformer_layer_cls_to_wrap": sharded_classes(model), **fsdp}
    evaluation: dict[str, Any] = {}
    if stage.eval_data:
        evaluation = {"eval_strategy": "steps", "eval_steps": save_steps}
    return dict(
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
        bf16=recipe.bf16 and (recipe.dtype == "bfloat16" or bfloat16_is_fast(device)),
        use_cpu=device == "cpu",
        fsdp=fsdp is not None,
        fsdp_config=fsdp,
        deepspeed=recipe.deepspeed,
        ddp_find_unused_parameters=False,  # the loss touches them all
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


def _preference_trainer(
    model: Any,
    processor: SlowFastProcessor,
    stage: FineTuneStage,
    arguments: dict[str, Any],
    inputs: dict[str, Any],
) -> Any:
    """TRL's trainer as it is, fed by this project's collator."""
    try:
        import datasets
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise TrainingError(
            "method: dpo: needs TRL; `pip install 'slowfast-mllm[preference]'`."
        ) from error

    class PreferenceTrainer(RecordTrainer, DPOTrainer):  # type: ignore[misc]
        def empty_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
            """Of a pair of two tokens: each step of TRL's gathers numbers from all processes."""
            mode = "train" if model.training else "eval"
            logged, self._metrics[mode] = self._metrics[mode], defaultdict(list)
            pair = {n: inputs[n].expand(2, 2) for n in ("input_ids", "attention_mask")}
            loss = self.loss_of(model, {**pair, "completion_mask": pair["attention_mask"]})
            self._metrics[mode] = logged  # this pair says nothing
            return loss

    def lazily(records: RecordDataset | None) -> Any:
        """TRL wants a data set of `datasets`."""
        if records is None:
            return None
        places = datasets.Dataset.from_dict({"place": list(range(len(records)))})
        return places.with_transform(partial(_items, records))

    arguments = {k: v for k, v in arguments.items() if k != "label_names"}
    config = DPOConfig(**arguments, beta=stage.beta, max_length=None)
    return PreferenceTrainer(
        model=model,
        ref_model=_reference(model, stage),
        args=config,
        processing_class=processor,
        **{**inputs, **{n: lazily(inputs[n]) for n in ("train_dataset", "eval_dataset")}},
    )


def _items(records: RecordDataset, rows: dict[str, list[int]]) -> dict[str, list[Any]]:
    """Rows of TRL; "images" is its name for those not to be prepared. Processes that are spawned
    get this by its name, so it is no part of another function."""
    items = [records[place] for place in rows["place"]]
    return {"images": [None] * len(items), "item": items}


def _reference(model: nn.Module, stage: FineTuneStage) -> nn.Module | None:
    """The model as it was; None with LoRA, where switching the adapters off shows that."""
    return None if stage.lora_rank else copy.deepcopy(model).requires_grad_(False).eval()
