"""`slowfast train`: run a recipe; run it again after an interruption and it goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.terminal import say


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, see the folder recipes/.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and the finished model.")],
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read clips.")] = 1,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
) -> None:
    """Train a model by a recipe. Interrupted runs go on from their last checkpoint."""
    try:
        run = _chosen(recipe)
    except ImportError as error:
        raise ValueError(
            f"Training needs more packages ({error}); install them with "
            "`pip install 'slowfast-mllm[train]'`."
        ) from error
    try:
        folder = run(output, num_workers, save_steps)
    except KeyboardInterrupt:
        say("The same command goes on from the last checkpoint.", err=True)
        raise
    for skipped in sorted(output.glob("*/skipped.jsonl")):
        count = len(set(skipped.read_text(encoding="utf-8").split("\n")) - {""})
        say(f"{count} records were left out, see {skipped}", err=True)
    say(f"Model saved in {folder}")


def _chosen(path: Path) -> Callable[[Path, int, int], Path]:
    """What runs a recipe: those with `model` make the packaged model, all others learn records."""
    from slowfast_mllm.train.recipe_file import read_recipe

    content = read_recipe(path)
    if isinstance(content, dict) and "model" in content:
        from slowfast_mini.lessons.recipe import check_recipe as check_lessons
        from slowfast_mini.lessons.run import train as teach

        return partial(teach, check_lessons(content, path))
    from slowfast_mllm.train.fine_tune import fine_tune
    from slowfast_mllm.train.recipe import check_recipe

    return partial(fine_tune, check_recipe(content, path))
