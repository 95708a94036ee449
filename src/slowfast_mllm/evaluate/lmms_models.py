"""The classes that lmms-eval holds, and a run of its tasks for `slowfast eval`."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from slowfast_mllm import load
from slowfast_mllm.engine import Assistant
from slowfast_mllm.evaluate.lmms import Examinee, Talk
from slowfast_mllm.evaluate.lmms_requests import (
    chat_rounds,
    chat_talk,
    simple_rounds,
    simple_talk,
    weighed,
)
from slowfast_mllm.evaluate.side_by_side import one_line


class SimpleSlowFast(lmms):
    """A model that is told the words of a task, and what they are about."""

    is_simple = True
    _talk: Callable[..., Talk] = staticmethod(simple_talk)
    _rounds: Callable[..., Talk] = staticmethod(simple_rounds)

    def __init__(
        self,
        pretrained: str | None = None,
        num_frames: int | str | None = None,
        fps: float | None = None,
        batch_size: int | str = 8,
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        quantize: Any = None,
        protocol: str | None = None,
        answers: str | None = None,
        assistant: Assistant | None = None,
    ) -> None:
        """
        Args:
            pretrained: as `load` takes a model; None: the packaged one.
            num_frames, fps: of all videos; None: as the model was made.
            batch_size: questions that are answered together; "auto": 8.
            max_batch_size: not looked at; the harness always says it.
            device, dtype, quantize: as `load` takes them.
            protocol: file for how the scores came about (`Examinee.protocol`), as JSON; each of
                several processes writes its own.
            answers: file for each answer as it comes, JSON Lines.
            assistant: a loaded model instead of `pretrained`.
        """
        super().__init__()
        self._rank = int(os.environ.get("RANK", 0))
        self._world_size = int(os.environ.get("WORLD_SIZE", 1))
        if device is None and self._world_size > 1 and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        self._protocol, self._answers = (self._mine(name) for name in (protocol, answers))
        if assistant is None:
            assistant = load(pretrained, device=device, dtype=dtype, quantize=quantize)
        sampling = {"num_frames": num_frames, "fps": fps}
        together = 8 if batch_size == "auto" else int(batch_size)
        self._bar: tqdm[Any] | None = None
        self.examinee = Examinee(assistant, together, self._heard, **sampling)
        self.device = torch.device(device or "cpu")

    def _mine(self, name: str | None) -> Path | None:
        """A file of this process."""
        if name is None:
            return None
        path = Path(name)
        suffix = f".{self._rank}{path.suffix}" if self._world_size > 1 else path.suffix
        return path.with_suffix(suffix)

    def _heard(self, told: dict[str, Any]) -> None:
        if self._bar is not None:
            self._bar.update()
        if self._answers is not None:
            with self._answers.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told, ensure_ascii=False, default=str) + "\n")

    @contextmanager
    def _sitting(self, count: int | None) -> Iterator[None]:
        """A bar while requests are answered, and the protocol after them, whatever comes."""
        self._bar = tqdm(total=count, desc="Answering", disable=self._rank != 0)
        try:
            yield
        finally:
            self._bar.close()
            if self._protocol is not None:
                told = self.protocol()
                self._protocol.write_text(json.dumps(told, indent=2, default=str), encoding="utf-8")

    def protocol(self) -> dict[str, Any]:
        """See `Examinee.protocol`; with the version of the harness, and how it asked."""
        told = self.examinee.protocol()
        told["versions"]["lmms_eval"] = version("lmms_eval")
        return told | {"asked_as": "simple" if self.is_simple else "chat"}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        talks = [self._talk(request, self.task_dict) for request in requests]
        with self._sitting(len(talks)):
            return [said[-1] for said in self.examinee.converse(talks)]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[list[str]]:
        talks = [self._rounds(request, self.task_dict) for request in requests]
        with self._sitting(None):  # nobody knows how many rounds there will be
            return self.examinee.converse(talks, several_rounds=True)

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """Pairs as `Examinee.weigh` gives them: of bare ones the harness makes strings."""
        answers = [weighed(request, self.task_dict) for request in requests]
        with self._sitting(len(answers)):
            return [GenerationResult(pair) for pair in self.examinee.weigh(answers)]


class ChatSlowFast(SimpleSlowFast):
    """A model that is told the messages of a task."""

    is_simple = False
    _talk = staticmethod(chat_talk)
    _rounds = staticmethod(chat_rounds)


def run_tasks(
    model: SimpleSlowFast,
    tasks: Sequence[str],
    limit: int | None = None,
    include_path: Path | None = None,
    generation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put tasks of lmms-eval to a model.

    Args:
        tasks: names, of groups too.
        limit: documents of each.
        include_path: folder with further task files.
        generation: replaces what tasks say about `generation_kwargs`.

    Returns:
        `scores` (of each task: metrics by name), `documents` (counts), `protocol`, and `samples`
        as the harness logs them.

    Raises:
        ValueError: a task is unknown, or it cannot be read, asked or scored.
    """
    os.environ.setdefault("HF_HOME", HF_HOME)  # some tasks cannot do without
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    # Importing it has pointed its log at stdout, which is kept for results.
    logger.remove()
    logger.add(sys.stderr, level="ERROR", format="{message}")
    given = ",".join(f"{name}={value}" for name, value in (generation or {}).items())
    try:
        manager = TaskManager(
            "ERROR", include_path=include_path and str(include_path), model_name="slowfast"
        )
        if missing := [name for name in tasks if not manager.match_tasks([name])]:
            raise ValueError(f"no task is called {', '.join(missing)}")
        with redirect_stdout(sys.stderr):  # tasks print, too
            results = simple_evaluate(
                model=model,
                tasks=manager.match_tasks([*tasks]),
                limit=limit,
                batch_size=model.examinee.max_batch,
                task_manager=manager,
                gen_kwargs=given or None,
                bootstrap_iters=0,
                verbosity="ERROR",
            )
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f"lmms-eval, {', '.join(tasks)}: {_cause(error)}") from error
    return {
        "scores": {name: _scores(told) for name, told in results["results"].items()},
        "documents": {name: told["effective"] for name, told in results["n-samples"].items()},
        "protocol": model.protocol(),
        "samples": results["samples"],
    }


def _cause(error: BaseException) -> str:
    """In a line; of what was tried several times, what it failed of."""
    attempt = getattr(error, "last_attempt", None)
    cause = attempt.exception() if attempt is not None else error
    if isinstance(cause, AssertionError) and "messages" in str(cause):
        return "likelihoods are asked of simple models only: say --simple"
    words = one_line(cause)
    return words if isinstance(cause, ValueError) else f"{type(cause).__name__}: {words}"


def _scores(told: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by metric, without the name of the filter that most have."""
    return {
        name.removesuffix(",none"): value
        for name, value in told.items()
        if isinstance(value, int | float)
    }
