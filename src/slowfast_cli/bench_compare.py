"""`slowfast bench compare`: the same questions to several models, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import refuse_wrong_bounds, wrong_usage
from slowfast_cli.loading import agree_to_download, working
from slowfast_cli.options import REPLY, Device, Dtype, Fps, Json, NumFrames, Quantize, Yes
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.evaluate.questions import Question
    from slowfast_mllm.evaluate.side_by_side import ModelRun, Reply


def compare(
    data: Annotated[
        Path,
        typer.Option(
            help="Table (.jsonl, .csv, .parquet) with video and question; answer, id, start and "
            "end if you like."
        ),
    ],
    models: Annotated[
        list[str],
        typer.Option(help="Folder, hub id or a name that `slowfast models` lists; slowfast-mini."),
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Further models.")
    ] = None,
    json: Json = False,
    num_frames: NumFrames = None,
    fps: Fps = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Longest answer, in tokens.", rich_help_panel=REPLY)
    ] = 256,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    yes: Yes = False,
) -> None:
    """Put the same questions to several models: what each says, how long it takes, how large it is.

    They are loaded one after the other, each in a process of its own. A question
    that fails does so alone, and so does a model.
    """
    names = list(dict.fromkeys([*models, *(more or [])]))
    options = {"num_frames": num_frames, "fps": fps, "max_new_tokens": max_new_tokens}
    given = {name: value for name, value in options.items() if value is not None}
    refuse_wrong_bounds("", num_frames=num_frames, fps=fps, frames_fps=None, fit=None, clip=False)
    from slowfast_mllm.engine.answers import split_options
    from slowfast_mllm.evaluate.questions import read_questions

    with wrong_usage():
        split_options(given)
    questions = read_questions(data)
    if not yes:
        for name in names:
            agree_to_download(name)
    loading = {"device": device, "dtype": dtype, "quantize": quantize}
    runs: list[ModelRun] = []
    try:
        _run(runs, names, questions, loading, given)
    finally:  # of what was interrupted, the models that were through
        if json and runs:
            rows = [vars(question) for question in questions]
            say_json({"questions": rows, "models": [run.to_dict() for run in runs]})
        elif runs:
            for line in (*_table(runs, questions), *_answers(runs, questions)):
                say(line)
    failed = sum(run.failed for run in runs)
    if failed:
        say(f"{failed} of {len(questions) * len(runs)} answers failed.", err=True)
        raise typer.Exit(1)


def _run(
    runs: "list[ModelRun]",
    names: Sequence[str],
    questions: "Sequence[Question]",
    loading: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Append each model's run once it has ended."""
    from slowfast_mllm.evaluate.side_by_side import compare_models

    with working("Asking") as status:

        def told(model: str, count: int) -> None:
            if status is not None:
                status.update(f"{model}: {count} of {len(questions)} answers")

        for run in compare_models(names, questions, loading, options, told):
            runs.append(run)


def _table(runs: "Sequence[ModelRun]", questions: "Sequence[Question]") -> Iterator[str]:
    """A column a model, the numbers below its name."""
    known = sum(question.expected is not None for question in questions)
    rows = [("", [run.model for run in runs])]
    if known:
        rows.append(("right", [f"{run.right} of {known}" for run in runs]))
    rows += [
        ("failed", [f"{run.failed} of {len(questions)}" for run in runs]),
        ("loading", [_seconds(run.loading) for run in runs]),
        ("looking, median", [_seconds(run.median("looking")) for run in runs]),
        ("answering, median", [_seconds(run.median("answering")) for run in runs]),
        ("peak memory", [_gigabytes(run.peak_memory) for run in runs]),
    ]
    if any(run.peak_gpu_memory for run in runs):
        rows.append(("peak GPU memory", [_gigabytes(run.peak_gpu_memory) for run in runs]))
    wide = [max(len(cells[i]) for _, cells in rows) for i in range(len(runs))]
    for name, cells in rows:
        yield f"{name:18}" + "  ".join(f"{c:>{w}}" for c, w in zip(cells, wide, strict=True))
    for run in runs:
        if run.error is not None:
            yield f"{run.model}: {run.error}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _gigabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e9:.2f} GB"


def _answers(runs: "Sequence[ModelRun]", questions: "Sequence[Question]") -> Iterator[str]:
    for number, question in enumerate(questions):
        expected = "" if question.expected is None else f" ({question.expected})"
        yield ""
        yield f"{question.id}: {question.question}{expected}"
        for run in runs:
            if run.replies[number].error is None or run.error is None:
                yield f"  {run.model}: {_told(run.replies[number])}"


def _told(reply: "Reply") -> str:
    if reply.error is not None:
        return f"failed: {reply.error}"
    sign = {True: "[right] ", False: "[wrong] ", None: ""}[reply.right]
    return sign + " ".join((reply.answer or "").split())
