"""`slowfast schema`: what the JSON of a job holds."""

from typing import Annotated

import typer

from slowfast_cli.terminal import say_json


def schema(
    job: Annotated[str, typer.Argument(help="A job with --json: cuts, facts, ...")],
) -> None:
    """Print the JSON Schema of what a job gives with --json."""
    from slowfast_mllm.tasks import JOBS, result_type

    if job not in JOBS:
        raise typer.BadParameter(f"{job}: no such job; known are {', '.join(JOBS)}.")
    say_json(result_type(job).model_json_schema(), indent=2)
