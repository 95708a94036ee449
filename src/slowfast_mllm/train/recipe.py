"""Recipes: what is trained on which records, as a small YAML file. Parsing and checking only.

A recipe begins with a model that there is, or that is put together from trained parts.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slowfast_mllm.train.recipe_file import RecipeError, check_names, choices, read_recipe, section

TRAINABLE = ("projector", "slow", "language_model", "vision")


@dataclass(frozen=True)
class Start:
    """What training starts from: `checkpoint`, or `language_model` and `vision_tower`.

    Attributes:
        checkpoint: a Slow-Fast model, native or official layout.
        language_model, vision_tower, object_tower, config: see `slowfast_mllm.train.assemble`.
    """

    checkpoint: str | None = None
    language_model: str | None = None
    vision_tower: str | None = None
    object_tower: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Records (see `train.records.read_records`), and how often an epoch has each of them."""

    path: str
    media: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class FineTuneStage:
    """One stage of training on records.

    Attributes:
        data, eval_data: where the records come from.
        method: "sft"; "dpo" for preferences (arXiv 2305.18290); "grpo" to reinforce what samples
            the right last answer of a record (arXiv 2402.03300).
        beta: of DPO and GRPO, how much leaving the model of the start costs.
        num_answers, temperature, max_new_tokens: of GRPO, how answers are sampled.
        format_reward: of GRPO, for `<think>...</think><answer>...</answer>`; being right earns 1.
        temporal_contrast: of GRPO, how much less being right counts about a clip that is answered
            as well with its frames shuffled; 1: not at all.
        train: parts of the model that learn: "projector", "slow" (slow keys and values, gates),
            "language_model", "vision".
        slow_learning_rate: of the slow path; default: `learning_rate`.
        lora_rank: adapters of this rank in the language model, merged at the end; 0: none.
        batch_size: records per process and step.
        gradient_accumulation: steps per update.
        max_steps: stop early; -1: all epochs.
        warmup: steps until the learning rate is reached; below 1: that share of all steps.
    """

    name: str
    data: list[Source]
    train: list[str]
    learning_rate: float
    method: Literal["sft", "dpo", "grpo"] = "sft"
    beta: float = 0.1
    num_answers: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 64
    format_reward: float = 0.0
    temporal_contrast: float = 0.0
    slow_learning_rate: float | None = None
    eval_data: list[Source] = field(default_factory=list)
    lora_rank: int = 0
    epochs: int = 1
    max_steps: int = -1
    batch_size: int = 1
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = True
    weight_decay: float = 0.0
    warmup: float = 0.03
    logging_steps: int = 10


@dataclass(frozen=True)
class FineTuneRecipe:
    """Training on records: a start, stages in order, and what they share.

    Attributes:
        num_frames: frames of each clip.
        fit: how pictures are brought into the model's size, "crop", "pad" or "squash" (see
            `SlowFastVideoProcessor`); the trained model keeps it. Default: as the start does.
        max_length: the longest conversation in tokens, placeholders included.
        bad_records: "refuse" stops at the first one, "skip" leaves them out and lists them.
        dtype: of the weights while training; "bfloat16" only with frozen weights under LoRA.
        bf16: compute in bfloat16, on machines that are fast at it or where the weights are in it.
        fsdp: `fsdp_config` of transformers' TrainingArguments.
        deepspeed: path of a DeepSpeed configuration.
    """

    name: str
    seed: int
    start: Start
    stages: list[FineTuneStage]
    num_frames: int = 64
    fit: Literal["crop", "pad", "squash"] | None = None
    max_length: int = 8192
    bad_records: Literal["refuse", "skip"] = "skip"
    dtype: Literal["float32", "bfloat16"] = "float32"
    bf16: bool = True
    fsdp: dict[str, Any] | None = None
    deepspeed: str | None = None


def load_recipe(path: str | Path) -> FineTuneRecipe:
    """Read and check a recipe.

    Raises:
        RecipeError: the file is missing, is no YAML mapping, or has an unknown or missing key.
    """
    return check_recipe(read_recipe(path), path)


def check_recipe(content: Any, path: str | Path) -> FineTuneRecipe:
    """What `read_recipe` gave, checked; see `load_recipe`."""
    top = section(FineTuneRecipe, content, str(path))
    start = Start(**section(Start, top["start"], f"{path}: start"))
    parts = [start.language_model, start.vision_tower, start.object_tower, start.config or None]
    given = [part is not None for part in parts]
    if any(given) if start.checkpoint is not None else not all(given[:2]):
        raise RecipeError(
            f"{path}: start: give either `checkpoint`, or `language_model` and `vision_tower`."
        )
    stages: list[FineTuneStage] = []
    for i, part in enumerate(top["stages"]):
        stage = _stage(part, f"{path}: stages[{i}]")
        if top.get("fsdp") and (stage.method != "sft" or stage.lora_rank):
            what = f"method {stage.method}" if stage.method != "sft" else "lora_rank"
            raise RecipeError(f"{path}: fsdp: not with {what}.")
        if top.get("dtype") == "bfloat16" and not stage.lora_rank:
            raise RecipeError(f"{path}: dtype: bfloat16 weights only under LoRA; use float32.")
        if top.get("dtype") == "bfloat16" and not top.get("bf16", True):
            raise RecipeError(f"{path}: bf16: false, but weights in bfloat16 compute in it.")
        stages.append(stage)
    check_names([stage.name for stage in stages], path)
    return FineTuneRecipe(**{**top, "start": start, "stages": stages})


def _stage(content: Any, where: str) -> FineTuneStage:
    stage = section(FineTuneStage, content, where)
    for key in ("data", "eval_data"):
        sources = stage.get(key, [])
        stage[key] = [Source(**section(Source, s, f"{where}: {key}")) for s in sources]
    choices(stage["train"], TRAINABLE, f"{where}: train")
    if not stage["data"]:
        raise RecipeError(f"{where}: data: no source of records.")
    if (steps := stage.get("max_steps", -1)) != -1 and steps <= 0:
        raise RecipeError(f"{where}: max_steps: give a number above 0, or -1 for whole epochs.")
    if stage.get("method") == "grpo" and stage.get("num_answers", 2) < 2:
        raise RecipeError(f"{where}: num_answers: grpo compares at least 2 answers.")
    if not 0 <= stage.get("temporal_contrast", 0) <= 1:
        raise RecipeError(f"{where}: temporal_contrast: a share is between 0 and 1.")
    if stage.get("method") == "grpo" and stage["eval_data"]:
        raise RecipeError(f"{where}: eval_data: grpo reports its reward while training only.")
    if stage.get("lora_rank") and "language_model" in stage["train"]:
        raise RecipeError(f"{where}: train: leave out language_model where lora_rank is set.")
    if not stage["train"] and not stage.get("lora_rank"):
        raise RecipeError(f"{where}: train: nothing would learn.")
    return FineTuneStage(**stage)
