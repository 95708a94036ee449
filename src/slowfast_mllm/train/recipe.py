"""Recipes: what is trained on what, as a small YAML file. Parsing and checking only."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from slowfast_mllm.world import TYPES

Section = TypeVar("Section")


class RecipeError(ValueError):
    """A recipe that cannot be read, with the file and the key that is wrong."""


@dataclass(frozen=True)
class ModelRecipe:
    """The architecture of a model trained from nothing.

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
            moments in memory ("dense"), what the tower makes of a clip on disk ("questions").
        first_seed: world seed of the first clip.
        batch_size: clips per step.
        learning_rate: peak, with linear warm-up and cosine decay to a twentieth.
        questions_per_clip: turns of the conversation about one clip ("questions" only).
        question_weights: how often a type of question is drawn beside the others; 1 where nothing
            is said ("questions" only).
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


@dataclass(frozen=True)
class Recipe:
    """A whole training: a model, its stages in order, and a seed for weights and order."""

    name: str
    seed: int
    model: ModelRecipe
    stages: list[StageRecipe]


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: the file is missing, is no YAML mapping, or has an unknown or missing key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}).") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise RecipeError(f"{path}: not valid YAML ({line}).") from error
    top = _section(Recipe, content, str(path))
    model = _section(ModelRecipe, top["model"], f"{path}: model")
    stages = [
        StageRecipe(**_section(StageRecipe, stage, f"{path}: stages[{i}]"))
        for i, stage in enumerate(top["stages"])
    ]
    for i, stage in enumerate(stages):
        for kind, weight in stage.question_weights.items():
            if kind not in TYPES or not weight > 0:
                raise RecipeError(
                    f"{path}: stages[{i}]: question_weights: {kind}: {weight}; give numbers above "
                    f"0 for {', '.join(TYPES)}."
                )
    return Recipe(**{**top, "model": ModelRecipe(**model), "stages": stages})


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
    return content
