"""The same questions to several models, one after the other: what each says, how long, how large.

Each model runs in a process of its own: nothing of it is left when the next is loaded, its memory
is its own peak, and one that the system kills for want of memory takes no other with it.
"""

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from slowfast_mllm.evaluate.questions import Question, is_right

# Of torch nothing is imported here: a process that begins reads this file first, and Ctrl-C then
# would end in its traceback.


@dataclass(frozen=True)
class Reply:
    """What a model said to one question.

    Attributes:
        right: what was expected is in the answer; None: nobody knows what to expect.
        looking: seconds for reading and encoding the video.
        answering: seconds from there to the end of the answer.
        error: why there is no answer; None: there is one.
    """

    answer: str | None = None
    right: bool | None = None
    looking: float | None = None
    answering: float | None = None
    error: str | None = None


@dataclass
class ModelRun:
    """A model's turn.

    Attributes:
        replies: as many as there are questions.
        loading: seconds; weights that are mapped are read with the first questions.
        peak_memory, peak_gpu_memory: bytes; None: it ended before, or there is no GPU.
        error: why it stopped; None: it did not.
    """

    model: str
    replies: list[Reply] = field(default_factory=list)
    loading: float | None = None
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    error: str | None = None

    @property
    def failed(self) -> int:
        return sum(reply.error is not None for reply in self.replies)

    @property
    def right(self) -> int:
        return sum(bool(reply.right) for reply in self.replies)

    def median(self, stage: str) -> float | None:
        """Seconds of `looking` or `answering`."""
        seconds = [s for reply in self.replies if (s := getattr(reply, stage)) is not None]
        return statistics.median(seconds) if seconds else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what is counted of the replies, as JSON types."""
        counted = {"right": self.right, "failed": self.failed}
        return {**asdict(self), **counted}


def compare_models(
    models: Sequence[str],
    questions: Sequence[Question],
    loading: Mapping[str, Any],
    options: Mapping[str, Any],
    on_reply: Callable[[str, int], None] | None = None,
) -> Iterator[ModelRun]:
    """Put all questions to each model.

    Args:
        models: as `load` takes them.
        loading: further arguments of `load`.
        options: fields of `Sampling` and `Generation`, for all questions.
        on_reply: called with the model and the number of its replies so far, 0 once it is loaded.

    Yields:
        Each model's run, once it has ended.
    """
    for model in models:
        run = ModelRun(model)
        for told in _told_by_process(model, questions, dict(loading), dict(options)):
            if isinstance(told, Reply):
                run.replies.append(told)
            else:
                for name, value in told.items():
                    setattr(run, name, value)
            if on_reply is not None and run.error is None:
                on_reply(model, len(run.replies))
        missing = len(questions) - len(run.replies)
        run.replies += [Reply(error=run.error)] * missing
        yield run


def _told_by_process(*work: Any) -> Iterator[Reply | dict[str, Any]]:
    """What a process tells that does this work, and why it ended if it did so before its time."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, *work), daemon=True)
    process.start()
    there.close()
    try:
        while True:
            told = here.recv()
            if told is None:
                return
            yield told
    except EOFError:
        process.join()
        yield {"error": _why_it_ended(process.exitcode)}
    finally:
        process.kill()
        process.join()
        here.close()


def _why_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, most likely for want of memory"
    return f"its process ended with exit code {code}"


def _work(
    pipe: Connection,
    model: str,
    questions: Sequence[Question],
    loading: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """In a process of its own: tell the loading, each reply, the memory, and None at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ended by who began it
    from slowfast_mllm import load
    from slowfast_mllm.evaluate.memory import peak_gpu_memory, peak_memory

    began = time.perf_counter()
    try:
        assistant = load(model, **loading)
    except Exception as error:
        pipe.send({"error": one_line(error)})
    else:
        pipe.send({"loading": time.perf_counter() - began})
        for question in questions:
            pipe.send(_reply(assistant, question, options))
        pipe.send({"peak_memory": peak_memory(), "peak_gpu_memory": peak_gpu_memory()})
    pipe.send(None)


def _reply(assistant: Any, question: Question, options: dict[str, Any]) -> Reply:
    if question.problem is not None:
        return Reply(error=question.problem)
    try:
        answer = assistant.ask(
            question.video, question.question, **{**options, **question.sampling}
        ).required()
    except Exception as error:
        return Reply(error=one_line(error))
    expected = question.expected
    return Reply(
        answer=answer.text,
        right=None if expected is None else is_right(answer.text, expected),
        looking=sum(answer.timing[stage] for stage in ("read", "preprocess", "encode")),
        answering=answer.timing["prefill"] + answer.timing["decode"],
    )


def one_line(error: BaseException) -> str:
    """What an error says, or what it is."""
    return " ".join(str(error).split()) or type(error).__name__
