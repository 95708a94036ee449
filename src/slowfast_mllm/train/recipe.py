"""Recipes: what is trained on what, as a small YAML file. Parsing and checking only.

With `model`, a recipe trains a model on the procedural world, from nothing unless it names
`weights`; with `start`, it trains one that there is, or that is put together from trained parts, on
records.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from slowfast_mllm.world import TYPES

Section = TypeVar("Section")
TRAINABLE = ("projector", "slow", "language_model", "vision")


class RecipeError(ValueError):
    """A recipe that cannot be read, with the file and the key that is wrong."""


@dataclass(frozen=True)
class ModelRecipe:
    """The architecture of a model trained on the procedural world.

    Attributes:
        image_size: height and width of a frame in pixels.
        num_frames: frames of a clip.
        vision_depths, vision_dims: stages of the ConvNeXt tower.
        hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads: the language model.
        hybrid_layers: decoder layers that attend the slow tokens.
        slow_spatial_pool, fast_temporal_pool, fast_spatial_pool, min_fast_frames: see
            `SlowFastConfig`.
        vocab_size: of the tokenizer that is trained on the world's questions.
    """

    image_size: int
    num_frames: int
    vision_depths: list[int]
    vision_dims: list[int]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    hybrid_layers: list[int]
    slow_spatial_pool: int
    fast_temporal_pool: int
    fast_spatial_pool: int
    min_fast_frames: int
    vocab_size: int


@dataclass(frozen=True)
class StageRecipe:
    """One stage of training.

    Attributes:
        kind: "dense" teaches the vision tower what is under each cell; "questions" teaches
            everything else to answer, and leaves the tower as it is.
        clips: different clips.
        epochs: passes over them, each with other questions. What is made once is kept: rendered
            moments in memory ("dense"; 83 KB each at 96 px, in every process that renders), what
            the tower makes of a clip on disk ("questions").
        first_seed: world seed of the first clip.
        batch_size: clips per step.
        learning_rate: peak, with linear warm-up and cosine decay to a twentieth.
        muon_learning_rate: of the matrices, which then learn by Muon; everything else by AdamW.
        questions_per_clip: turns of the conversation about one clip ("questions" only).
        question_weights: how often a type of question is drawn beside the others; 1 where nothing
            is said ("questions" only).
        chinese, multiple_choice: shares of the conversations that are in Traditional Chinese, and
            of the questions that offer answers by letter ("questions" only).
        apart: share of the clips whose questions do not see one another, so that each is answered
            as a first question is; in the others, earlier answers tell later ones ("questions"
            only).
        compile: compile the decoder's layers: minutes at the start, then faster steps ("questions"
            only).
    """

    name: str
    kind: Literal["dense", "questions"]
    clips: int
    first_seed: int
    batch_size: int
    learning_rate: float
    epochs: int = 1
    weight_decay: float = 0.05
    warmup_steps: int = 100
    questions_per_clip: int = 6
    question_weights: dict[str, float] = field(default_factory=dict)
    chinese: float = 0.0
    multiple_choice: float = 0.0
    apart: float = 0.0
    compile: bool = False
    muon_learning_rate: float | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole training: a model, its stages in order, and a seed for weights and order.

    Attributes:
        photos: a folder of pictures for the backgrounds of half of the shots.
        weights: the folder of a saved model of this shape, which learns on with its tokenizer.
    """

    name: str
    seed: int
    model: ModelRecipe
    stages: list[StageRecipe]
    photos: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Start:
    """What training starts from: `checkpoint`, or `language_model` and `vision_tower`.

    Attributes:
        checkpoint: a Slow-Fast model, native or official layout.
        language_model, vision_tower, config: see `slowfast_mllm.train.assemble`.
    """

    checkpoint: str | None = None
    language_model: str | None = None
    vision_tower: str | None = None
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
    max_length: int = 8192
    bad_records: Literal["refuse", "skip"] = "skip"
    dtype: Literal["float32", "bfloat16"] = "float32"
    bf16: bool = True
    fsdp: dict[str, Any] | None = None
    deepspeed: str | None = None


def load_recipe(path: str | Path) -> Recipe | FineTuneRecipe:
    """Read and check a recipe.

    Raises:
        RecipeError: the file is missing, is no YAML mapping, or has an unknown or missing key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason}).") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise RecipeError(f"{path}: not valid YAML ({line}).") from error
    if isinstance(content, dict) and "start" in content:
        return _fine_tune(content, path)
    top = _section(Recipe, content, str(path))
    model = _section(ModelRecipe, top["model"], f"{path}: model")
    stages = [
        StageRecipe(**_section(StageRecipe, stage, f"{path}: stages[{i}]"))
        for i, stage in enumerate(top["stages"])
    ]
    _check_names(stages, path)
    for i, stage in enumerate(stages):
        _check_stage(stage, f"{path}: stages[{i}]")
    if top.get("weights") is not None and any(stage.kind == "dense" for stage in stages):
        raise RecipeError(
            f"{path}: weights: a stage of kind 'dense' would begin the rest of the model anew; "
            "give stages of kind 'questions' alone."
        )
    return Recipe(**{**top, "model": ModelRecipe(**model), "stages": stages})


def _check_stage(stage: StageRecipe, where: str) -> None:
    for key in ("chinese", "multiple_choice", "apart"):
        if not 0 <= getattr(stage, key) <= 1:
            raise RecipeError(f"{where}: {key}: a share is between 0 and 1.")
    for kind, weight in stage.question_weights.items():
        if kind not in TYPES or not weight > 0:
            raise RecipeError(
                f"{where}: question_weights: {kind}: {weight}; give numbers above 0 for "
                f"{', '.join(TYPES)}."
            )


def _fine_tune(content: dict[str, Any], path: str | Path) -> FineTuneRecipe:
    top = _section(FineTuneRecipe, content, str(path))
    start = Start(**_section(Start, top["start"], f"{path}: start"))
    parts = [start.language_model, start.vision_tower, start.config or None]
    given = [part is not None for part in parts]
    if any(given) if start.checkpoint is not None else not all(given[:2]):
        raise RecipeError(
            f"{path}: start: give either `checkpoint`, or `language_model` and `vision_tower`."
        )
    stages: list[FineTuneStage] = []
    for i, section in enumerate(top["stages"]):
        stage = _stage(section, f"{path}: stages[{i}]")
        if top.get("fsdp") and (stage.method != "sft" or stage.lora_rank):
            what = f"method {stage.method}" if stage.method != "sft" else "lora_rank"
            raise RecipeError(f"{path}: fsdp: not with {what}.")
        if top.get("dtype") == "bfloat16" and not stage.lora_rank:
            raise RecipeError(f"{path}: dtype: bfloat16 weights only under LoRA; use float32.")
        if top.get("dtype") == "bfloat16" and not top.get("bf16", True):
            raise RecipeError(f"{path}: bf16: false, but weights in bfloat16 compute in it.")
        stages.append(stage)
    _check_names(stages, path)
    return FineTuneRecipe(**{**top, "start": start, "stages": stages})


def _stage(content: Any, where: str) -> FineTuneStage:
    stage = _section(FineTuneStage, content, where)
    for key in ("data", "eval_data"):
        sources = stage.get(key, [])
        stage[key] = [Source(**_section(Source, s, f"{where}: {key}")) for s in sources]
    _choices(stage["train"], TRAINABLE, f"{where}: train")
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


def _check_names(stages: Sequence[StageRecipe | FineTuneStage], path: str | Path) -> None:
    """A stage's name is its folder."""
    if not stages:
        raise RecipeError(f"{path}: stages: none given.")
    names = [stage.name for stage in stages]
    for i, name in enumerate(names):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise RecipeError(f"{path}: stages[{i}]: name: {name!r} cannot be that of a folder.")
        if name in names[:i]:
            raise RecipeError(f"{path}: stages[{i}]: name: {name!r} is taken already.")


def _choices(given: list[Any], known: tuple[Any, ...], where: str) -> None:
    for value in given:
        if value not in known:
            raise RecipeError(f"{where}: unknown {value!r}; known are {', '.join(known)}.")


def _section(kind: type[Section], content: Any, where: str) -> dict[str, Any]:
    """Check the keys of one mapping against a dataclass."""
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: expected `key: value` lines, found {type(content).__name__}.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise RecipeError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}.")
    missing = [
        n
        for n, f in known.items()
        if f.default is MISSING and f.default_factory is MISSING and n not in content
    ]
    if missing:
        raise RecipeError(f"{where}: missing key {missing[0]!r}.")
    hints = get_type_hints(kind)
    checked = {
        name: _checked(value, hints[name], f"{where}: {name}") for name, value in content.items()
    }
    for name, value in checked.items():
        if name == "path" and not value:  # it would stand for the folder of the command
            raise RecipeError(f"{where}: path: empty.")
        if value is not None and name in _ABOVE_ZERO and not value > 0:
            raise RecipeError(f"{where}: {name}: {value}; give a number above 0.")
        if value is not None and name in _FROM_ZERO and not value >= 0:
            raise RecipeError(f"{where}: {name}: {value}; give a number from 0 on.")
    return checked


_ABOVE_ZERO = {
    *("epochs", "clips", "batch_size", "questions_per_clip", "gradient_accumulation"),
    *("learning_rate", "muon_learning_rate", "slow_learning_rate", "weight", "temperature"),
    *("num_answers", "max_new_tokens", "num_frames", "max_length", "logging_steps", "image_size"),
    *("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "vocab_size"),
}
_FROM_ZERO = {"seed", "first_seed", "warmup", "warmup_steps", "weight_decay", "beta", "lora_rank"}
_FOUND = {str: "text", list: "a list", dict: "`key: value` lines", bool: "true or false"}


def _checked(value: Any, hint: Any, where: str) -> Any:
    """A value of the kind that its field has; what is inside a dataclass is checked elsewhere."""
    parts = get_args(hint)
    if get_origin(hint) is UnionType:
        if value is None:
            return None
        hint = next(part for part in parts if part is not NoneType)
        parts = get_args(hint)
    if get_origin(hint) is Literal:
        _choices([value], parts, where)
    if hint in (int, float):
        return _number(value, hint, where)
    kind = get_origin(hint) or hint
    if kind in _FOUND and not isinstance(value, kind):
        raise RecipeError(f"{where}: expected {_FOUND[kind]}, found {type(value).__name__}.")
    if kind is list:
        return [_checked(item, parts[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return {key: _checked(item, parts[1], f"{where}: {key}") for key, item in value.items()}
    return value


def _number(value: Any, wanted: type[int] | type[float], where: str) -> int | float:
    """Numbers as numbers: YAML takes `1e-4` for words."""
    try:
        number = wanted(value)
        if isinstance(value, bool) or number != float(value) or not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(
            f"{where}: {value!r} is not a number of kind {wanted.__name__}."
        ) from error
    return number
