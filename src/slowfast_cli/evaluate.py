"""`slowfast eval`: tasks of lmms-eval, answered by a model, with the protocol beside the score."""

import importlib.util
import json as json_of
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from slowfast_cli.loading import load_model
from slowfast_cli.options import (
    PLACE,
    REPLY,
    Device,
    Dtype,
    Fps,
    Json,
    Model,
    NumFrames,
    Quantize,
    Yes,
)
from slowfast_cli.terminal import say, say_json

_INSTALL = "pip install 'slowfast-mllm[eval]' && pip install --no-deps lmms-eval==0.7.3"


def evaluate(
    tasks: Annotated[list[str], typer.Option(help="Task or group; several, or with commas.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder for results.json (scores and protocol), samples.jsonl and, as they "
            "come, answers.jsonl.",
        ),
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="Folder with task files of your own.")
    ] = None,
    simple: Annotated[
        bool,
        typer.Option("--simple", help="As simple models are asked: tasks of likelihoods need it."),
    ] = False,
    num_frames: NumFrames = None,
    fps: Fps = None,
    gen_kwargs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<name=value>",
            help="Instead of what a task says, e.g. max_new_tokens=32.",
            rich_help_panel=REPLY,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Questions answered together.", rich_help_panel=PLACE)
    ] = 8,
    json: Json = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
) -> None:
    """Answer benchmarks of lmms-eval; of each video once is looked for all its questions.

    Beside the scores stands how they came about: frames, prompts, versions, and
    every request that failed.
    """
    generation = _generation(gen_kwargs or [])
    _refuse(output, include_path)
    assistant = load_model(model, False, yes, device=device, dtype=dtype, quantize=quantize)
    from slowfast_mllm.evaluate.lmms_models import ChatSlowFast, SimpleSlowFast, run_tasks

    if output is not None:
        output.mkdir(exist_ok=True)
    examined = (SimpleSlowFast if simple else ChatSlowFast)(
        num_frames=num_frames,
        fps=fps,
        batch_size=batch_size,
        answers=None if output is None else str(output / "answers.jsonl"),
        assistant=assistant,
    )
    names = [name.strip() for words in tasks for name in words.split(",") if name.strip()]
    try:
        results = run_tasks(examined, names, limit, include_path, generation)
    except ValueError:  # what was answered stays, and how
        if output is not None and examined.protocol()["tasks"]:
            _write(output / "protocol.json", examined.protocol())
        raise
    samples = results.pop("samples")
    if output is not None:
        _write(output / "results.json", results)
        _write_samples(output / "samples.jsonl", samples)
    if json:
        say_json(results)
    else:
        for line in _lines(results):
            say(line)
    if failures := results["protocol"]["failures"]:
        first = failures[0]
        say(
            f"{len(failures)} requests have no answer; the first, {first['task']} "
            f"{first['doc_id']}: {first['error']}",
            err=True,
        )
        raise typer.Exit(1)


def _generation(given: list[str]) -> dict[str, str]:
    options = {}
    for pair in (pair for words in given for pair in words.split(",")):
        name, _, value = pair.partition("=")
        if not (name and value):
            raise typer.BadParameter(f"--gen-kwargs: {pair!r} is no name=value.")
        options[name] = value
    return options


def _refuse(output: Path | None, include_path: Path | None) -> None:
    """Fail before a model is loaded."""
    if importlib.util.find_spec("lmms_eval") is None:
        raise ValueError(f"lmms-eval is not installed; install it with `{_INSTALL}`.")
    if include_path is not None and not include_path.is_dir():
        raise typer.BadParameter(f"--include-path: {include_path} is no folder.")
    if output is None:
        return
    if not output.parent.is_dir():
        raise typer.BadParameter(f"{output}: no such folder, {output.parent}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"{output}: there is something; name a new folder.")


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json_of.dumps(told, indent=2, default=str) + "\n", encoding="utf-8")


def _write_samples(path: Path, samples: Mapping[str, list[dict[str, Any]]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for task, rows in samples.items():
            for row in rows:
                file.write(json_of.dumps({"task": task, **row}, default=str) + "\n")


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    """A line a metric, and how the scores came about."""
    protocol = results["protocol"]
    for task, scores in results["scores"].items():
        told = protocol["tasks"].get(task, {"requests": 0, "failed": 0})
        for name, value in scores.items():
            number = f"{value:.4g}" if isinstance(value, int | float) else str(value)
            yield (
                f"{task:24} {name:28} {number:>10}   "
                f"{told['requests']} requests, {told['failed']} failed"
            )
    looked = protocol["frames"]["looked_at"]
    frames = f"{looked.get('fewest', 0)} to {looked.get('most', 0)} frames"
    versions = ", ".join(f"{name} {value}" for name, value in protocol["versions"].items())
    yield f"{protocol['model']}: {looked['videos']} videos encoded, {frames}; {versions}"
