"""Runs a recipe stage by stage on the Hugging Face Trainer: checkpoints, resumes, saves a model.

Layout of an output folder: `<stage>/checkpoint-*` while a stage runs, `<stage>/done` afterwards,
and `model/` at the end (model, tokenizer and processor, ready for `from_pretrained`).
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from slowfast_mini.lessons.dense_labels import DenseLabelModel
from slowfast_mini.lessons.everyday import see_everyday
from slowfast_mini.lessons.first_weights import start_from_dense_stage
from slowfast_mini.lessons.grounding import GroundedModel, MentioningCollator
from slowfast_mini.lessons.grown_model import grow
from slowfast_mini.lessons.new_model import new_model, new_tokenizer
from slowfast_mini.lessons.optimizer import ADAM_BETAS, MuonWithAdamW
from slowfast_mini.lessons.recipe import Recipe, StageRecipe
from slowfast_mini.lessons.seen_clips import SeenClipModel, see_clips
from slowfast_mini.lessons.world_data import ConversationCollator, MomentDataset, collate_dense
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.hardware import bfloat16_is_fast
from slowfast_mllm.model.whole_checkpoint import first_line, load_whole
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.run_folder import (
    TrainingError,
    check_devices,
    check_finite,
    claim,
    full_disk_told,
    last_checkpoint,
)

_SEEN = "seen"  # folder of a stage for what the tower makes of its clips


def train(recipe: Recipe, output: Path, num_workers: int = 1, save_steps: int = 200) -> Path:
    """Run what is left of a recipe; calling it again after a kill goes on from the last checkpoint.

    Args:
        output: folder of the run; created if absent.
        num_workers: processes that render clips.
        save_steps: steps between checkpoints.

    Returns:
        The folder of the finished model.

    Raises:
        TrainingError: `output` holds another recipe's run, several processes were started, or
            `weights` has no model of this architecture.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # they would write each other's files
        raise TrainingError(f"{recipe.name}: a recipe of the world runs in one process.")
    output.mkdir(parents=True, exist_ok=True)
    claim(recipe, output)
    set_seed(recipe.seed)
    tokenizer = _tokenizer(recipe, output)
    model = _first_model(recipe, tokenizer)
    for stage in recipe.stages:
        folder = output / stage.name
        if not (folder / "done").exists():
            _run_stage(recipe, stage, model, tokenizer, folder, num_workers, save_steps)
            save_file(_weights(model), folder / "weights.safetensors")
            (folder / "done").touch()
            shutil.rmtree(folder / _SEEN, ignore_errors=True)
        else:
            model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    return save_model(model, tokenizer, recipe, output / "model")


def _tokenizer(recipe: Recipe, output: Path) -> PreTrainedTokenizerFast:
    folder = output / "tokenizer"
    if not folder.exists():
        if recipe.weights is None or recipe.tower is not None:
            things = recipe.tower is not None
            tokenizer = new_tokenizer(recipe.model.vocab_size, things=things)
        else:
            tokenizer = _of_saved(recipe.weights, PreTrainedTokenizerFast.from_pretrained)
        new = folder.with_name("tokenizer.new")
        tokenizer.save_pretrained(new)
        new.replace(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _first_model(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> SlowFastForConditionalGeneration:
    model = new_model(recipe.model, tokenizer)
    if recipe.weights is not None:
        saved = _of_saved(recipe.weights, load_whole).float()
        if recipe.tower is not None:
            old = _of_saved(recipe.weights, PreTrainedTokenizerFast.from_pretrained)
            saved = _of_saved(recipe.tower, lambda tower: grow(saved, old, tokenizer, tower))
            model = SlowFastForConditionalGeneration(saved.config)
        # Weights that fit are not yet attended by the same number of heads, nor pooled alike.
        here, there = _architecture(model.config), _architecture(saved.config)
        for name in here:
            if here[name] != there[name]:
                raise TrainingError(
                    f"weights: {recipe.weights}: {name} is {there[name]} there, but {here[name]} "
                    "by `model`."
                )
        model.load_state_dict(saved.state_dict())
    return model


def _architecture(config: SlowFastConfig) -> dict[str, Any]:
    """What a `ModelRecipe` decides; None where a model has no such thing."""
    parts: dict[str, tuple[str, ...]] = {
        "text_config": (
            *("model_type", "vocab_size", "hidden_size", "intermediate_size"),
            *("num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        ),
        "vision_config": ("model_type", "image_size", "num_channels", "depths", "hidden_sizes"),
    }
    whole = config.to_dict()
    found = {
        f"{part}.{name}": whole[part].get(name) for part, names in parts.items() for name in names
    }
    names = (
        *("hybrid_layers", "slow_spatial_pool", "fast_frame_stride", "fast_temporal_pool"),
        *("fast_spatial_pool", "min_fast_frames", "motion_features", "visual_position_encoding"),
    )
    return found | {name: whole[name] for name in names}


def _of_saved(folder: str, load: Callable[[str], Any]) -> Any:
    """What `load` makes of a saved model's folder."""
    try:
        if not Path(folder).is_dir():
            raise ValueError("no such folder")
        return load(folder)
    except Exception as error:  # damaged files raise what they like
        raise TrainingError(
            f"weights: {folder}: no model to go on from ({first_line(error)})."
        ) from error


def _photos(folder: str | None) -> tuple[str, ...]:
    """The picture files of a folder, in order."""
    if folder is None:
        return ()
    kinds = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    found = sorted(str(p) for p in Path(folder).glob("*") if p.suffix.lower() in kinds)
    if not found:
        raise TrainingError(f"photos: {folder}: no folder with pictures ({', '.join(kinds)}).")
    for path in found:  # now, not hours into the run
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, ValueError) as error:
            raise TrainingError(f"photos: {path}: not a picture that can be read.") from error
    return tuple(found)


def _weights(model: SlowFastForConditionalGeneration) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    state.pop("lm_head.weight")  # tied to the embeddings
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _run_stage(
    recipe: Recipe,
    stage: StageRecipe,
    model: SlowFastForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    num_workers: int,
    save_steps: int,
) -> None:
    photos = _photos(recipe.photos)
    learner: nn.Module
    data: Any
    collator: Any
    if stage.kind == "dense":
        learner = DenseLabelModel(model.model.vision_tower)
        data = MomentDataset(
            stage.first_seed, stage.clips, recipe.model.num_frames, recipe.model.image_size, photos
        )
        collator = collate_dense
    else:
        everyday = stage.kind == "everyday"
        if everyday and model.config.object_config is None:
            raise TrainingError(f"{stage.name}: everyday things need an object tower; give tower.")
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        model.model.vision_tower.requires_grad_(False)
        if model.config.object_config is not None:
            model.model.object_tower.requires_grad_(False)
        if not torch.cuda.is_available():  # the fused kernel's backward pass is slow on CPUs
            model.set_attn_implementation("eager")
        see = see_everyday if everyday else see_clips
        data = see(model, recipe.model, stage, folder / _SEEN, num_workers, photos)
        learner = (GroundedModel if everyday else SeenClipModel)(model)
        if stage.compile:
            learner.compile_layers()
        batches = MentioningCollator if everyday else ConversationCollator
        collator = batches(SlowFastProcessor.from_config(model.config, tokenizer))
    train_stage(recipe.seed, stage, learner, data, collator, folder, num_workers, save_steps)
    if isinstance(learner, DenseLabelModel):
        set_seed(recipe.seed)  # after an interruption just here, too
        start_from_dense_stage(model.cpu(), learner, tokenizer, data)


class _StageTrainer(Trainer):
    """Stops where the loss or the gradient is not a number."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        check_finite("loss", loss.item(), self, f"its {self.args.train_batch_size} clips")
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        check_finite("gradient", float(norm), self, f"its {self.args.train_batch_size} clips")
        return norm


def train_stage(
    seed: int,
    stage: StageRecipe,
    learner: nn.Module,
    data: Any,
    collator: Any,
    folder: Path,
    num_workers: int,
    save_steps: int,
) -> None:
    """Train `learner`, whose forward returns a loss, or what is left of it, in place."""
    check_devices()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = None
    if stage.muon_learning_rate is not None:
        rates = (stage.learning_rate, stage.muon_learning_rate)
        optimizer = MuonWithAdamW(learner, *rates, stage.weight_decay)
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        # The visits of all epochs are one data set in the stage of questions.
        num_train_epochs=stage.epochs if stage.kind == "dense" else 1,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup_steps=stage.warmup_steps,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        adam_beta2=ADAM_BETAS[1],
        max_grad_norm=5.0,
        bf16=bfloat16_is_fast(device),
        use_cpu=device == "cpu",
        dataloader_num_workers=num_workers,
        dataloader_persistent_workers=num_workers > 0,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        logging_steps=25,
        save_steps=save_steps,
        save_total_limit=2,
        report_to=["tensorboard"],
    )
    trainer = _StageTrainer(learner, arguments, collator, data, optimizers=(optimizer, None))
    with full_disk_told(folder):
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))


def save_model(
    model: SlowFastForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    folder: Path,
) -> Path:
    """Write model (bf16), tokenizer and processor into one folder."""
    model.to(torch.bfloat16).save_pretrained(folder)
    processor = SlowFastProcessor.from_config(
        model.config, tokenizer, num_frames=recipe.model.num_frames
    )
    processor.save_pretrained(folder)
    return folder
