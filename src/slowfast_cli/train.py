"""`slowfast train`: run a recipe; run it again after an interruption and it goes on."""

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
        from slowfast_mllm.train.fine_tune import fine_tune
        from slowfast_mllm.train.recipe import FineTuneRecipe, load_recipe
        from slowfast_mllm.train.run import train as run
    except ImportError as error:
        raise ValueError(
            f"Training needs more packages ({error}); install them with "
            "`pip install 'slowfast-mllm[train]'`."
        ) from error
    plan = load_recipe(recipe)
    try:
        if isinstance(plan, FineTuneRecipe):
            folder = fine_tune(plan, output, num_workers, save_steps)
        else:
            folder = run(plan, output, num_workers, save_steps)
    except KeyboardInterrupt:
        say("The same command goes on from the last checkpoint.", err=True)
        raise
    if isinstance(plan, FineTuneRecipe):
        for skipped in sorted(output.glob("*/skipped.jsonl")):
            count = len(set(skipped.read_text(encoding="utf-8").split("\n")) - {""})
            say(f"{count} records were left out, see {skipped}", err=True)
    say(f"Model saved in {folder}")
