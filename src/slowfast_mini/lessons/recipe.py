"""Recipes of the packaged model: an architecture and stages on the procedural world.

A model is trained from nothing unless the recipe names `weights`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slowfast_mini.things import TYPES as THING_TYPES
from slowfast_mini.world import TYPES
from slowfast_mllm.train.recipe_file import RecipeError, check_names, read_recipe, section


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
            everything else to answer, and leaves the tower as it is; "everyday" is "questions" with
            photographs as scenes and simulated tracks beside the drawn clips, for a model with an
            object tower.
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
        scenes: photographed scenes ("everyday" only; each comes three times an epoch).
        tracks: clips of simulated tracks ("everyday" only).
        compile: compile the decoder's layers: minutes at the start, then faster steps ("questions"
            only).
    """

    name: str
    kind: Literal["dense", "questions", "everyday"]
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
    scenes: int = 0
    tracks: int = 0
    compile: bool = False
    muon_learning_rate: float | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole training: a model, its stages in order, and a seed for weights and order.

    Attributes:
        photos: a folder of pictures for the backgrounds of half of the shots, and for scenes.
        weights: the folder of a saved model of this shape, which learns on with its tokenizer.
        tower: the folder of a `NanoDetModel` (see `slowfast_mini.lessons.fetch_tower`), which the
            model of `weights` gets for an object tower, with a new tokenizer that knows the words.
    """

    name: str
    seed: int
    model: ModelRecipe
    stages: list[StageRecipe]
    photos: str | None = None
    weights: str | None = None
    tower: str | None = None


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: the file is missing, is no YAML mapping, or has an unknown or missing key.
    """
    return check_recipe(read_recipe(path), path)


def check_recipe(content: Any, path: str | Path) -> Recipe:
    """What `read_recipe` gave, checked; see `load_recipe`."""
    top = section(Recipe, content, str(path))
    model = section(ModelRecipe, top["model"], f"{path}: model")
    stages = [
        StageRecipe(**section(StageRecipe, stage, f"{path}: stages[{i}]"))
        for i, stage in enumerate(top["stages"])
    ]
    check_names([stage.name for stage in stages], path)
    for i, stage in enumerate(stages):
        _check_stage(stage, f"{path}: stages[{i}]")
    if top.get("weights") is not None and any(stage.kind == "dense" for stage in stages):
        raise RecipeError(
            f"{path}: weights: a stage of kind 'dense' would begin the rest of the model anew; "
            "give stages of kind 'questions' alone."
        )
    if top.get("tower") is not None and top.get("weights") is None:
        raise RecipeError(f"{path}: tower: give the model that gets it (weights:) too.")
    if any(stage.kind == "everyday" for stage in stages) and top.get("photos") is None:
        raise RecipeError(f"{path}: photos: a stage of kind 'everyday' needs a folder of them.")
    return Recipe(**{**top, "model": ModelRecipe(**model), "stages": stages})


def _check_stage(stage: StageRecipe, where: str) -> None:
    for key in ("chinese", "multiple_choice", "apart"):
        if not 0 <= getattr(stage, key) <= 1:
            raise RecipeError(f"{where}: {key}: a share is between 0 and 1.")
    if stage.kind == "everyday" and not (stage.scenes > 0 and stage.tracks > 0):
        raise RecipeError(f"{where}: scenes, tracks: give numbers above 0.")
    known = (*TYPES, *THING_TYPES) if stage.kind == "everyday" else TYPES
    for kind, weight in stage.question_weights.items():
        if kind not in known or not weight > 0:
            raise RecipeError(
                f"{where}: question_weights: {kind}: {weight}; give numbers above 0 for "
                f"{', '.join(known)}."
            )
