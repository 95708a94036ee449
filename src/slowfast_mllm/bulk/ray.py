"""Jobs on a cluster, by Ray Data: videos are read on CPUs, and looked at by actors with the model.

Importable for pipelines of one's own: `VideoReader`, `VideoEncoder` and `Answerer` for
`Dataset.map_batches`, and `tries_on_cluster`, which makes them survive videos that kill processes.

The program that asks writes the rows itself, into the same file with the same ledger of what is
done (`tasks.journal`) as without a cluster. Ray's own checkpoints count blocks that were written:
what a killed program had done of a block would be done again, and stand there twice.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slowfast_mllm.bulk.jobs import Job
from slowfast_mllm.bulk.stages import (
    RECORD,
    Answerer,
    VideoEncoder,
    VideoReader,
    Worker,
    as_text,
    go_to,
    model_name,
    software,
)
from slowfast_mllm.bulk.tries import Tries
from slowfast_mllm.engine.catalog import PACKAGED, checkpoint_of
from slowfast_mllm.engine.transformers_loading import is_of_transformers
from slowfast_mllm.tasks.many import OnProgress, Outcomes, Progress, results_into
from slowfast_mllm.tasks.records import Record

try:
    import ray
    import ray.data
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ValueError("--ray: needs Ray; `pip install 'slowfast-mllm[ray]'`.") from error

__all__ = ["Answerer", "VideoEncoder", "VideoReader", "do_on_cluster", "tries_on_cluster"]

LOCAL = "local"  # a cluster of this machine alone, as long as the program runs
_STORE = 2**30  # bytes of its object store
_BATCH = 16  # videos that go to a worker together, and are done again if it dies
_ROUNDS = 3  # of asking again for what came back from nobody
_WAIT = 5.0  # seconds for a cluster to answer
# As clients of HTTP/2 begin, which clusters speak; servers answer with settings, too.
_SETTINGS = b"\x04"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)


@dataclass(frozen=True)
class Plan:
    """Who does what on a cluster; None: as its GPUs and CPUs suggest.

    Attributes:
        workers: actors with the model.
        readers: actors that read videos for them; 0: they read themselves.
    """

    workers: int | None = None
    readers: int | None = None


def do_on_cluster(
    address: str,
    job: Job,
    records: Sequence[Record],
    output: Path,
    model: str | None = None,
    how_loaded: Mapping[str, Any] = {},
    on_progress: OnProgress = lambda progress: None,
    plan: Plan | None = None,
) -> Progress:
    """Do a job with models that workers load; the rows are those of `do_here`.

    Args:
        address: "local", "auto", or host:port of the cluster that this machine is part of.
        output: ends in `.jsonl`; `.tries.jsonl` beside it remembers who died of which video.
        model, how_loaded: arguments of `load`.

    Raises:
        ValueError: there is no such cluster, `output` is another program's, or no worker can work.
        OSError: `output` cannot be written (any more).
    """
    same = {"model": model_name(model), "settings": job.settings()}
    with cluster(address):
        tries = tries_on_cluster(output.with_suffix(".tries.jsonl"))
        stages = partial(_pipeline, job, model, how_loaded, tries, plan or Plan())
        return results_into(output, same, records, partial(_outcomes, job, stages), on_progress)


class RemoteTries:
    """`Tries` in a process of its own, for those that look at videos."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin(self, stage: str, ids: Collection[str]) -> dict[str, int]:
        found: dict[str, int] = ray.get(self._actor.begin.remote(stage, list(ids)))
        return found

    def begin_alone(self, stage: str, id: str) -> None:
        ray.get(self._actor.begin_alone.remote(stage, id))

    def end(self, stage: str, ids: Collection[str]) -> None:
        ray.get(self._actor.end.remote(stage, list(ids)))


def tries_on_cluster(path: Path | None) -> RemoteTries:
    """A ledger of who died of what, for the argument `tries` of stages.

    Args:
        path: of a file on this machine that remembers it; see `Tries`.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    kind = ray.remote(Tries).options(**options, scheduling_strategy=here)
    return RemoteTries(kind.remote(None if path is None else path.absolute()))


class _Reader(VideoReader):
    """A reader for whom names of videos lead from a folder, as they do for who asked."""

    def __init__(self, folder: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        go_to(folder)


class _Actor(Worker):
    """A worker that keeps its name when Ray begins it again."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, place=ray.get_runtime_context().get_actor_id())


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Ray, as it is in this process already, or begun for as long as it is needed.

    Raises:
        ValueError: there is none at that address, or it is of another version.
    """
    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        own = {"include_dashboard": False, "object_store_memory": _STORE}
        with _environment(PYTHONPATH=os.pathsep.join(sys.path)), _silent():
            ray.init(address=LOCAL, **own, **quiet)  # workers import what can be imported here
    else:
        _refuse_silent(address)
        try:
            with _silent():
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(f"--ray {address}: {_line(error)}.") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield
    except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
        raise ValueError(
            f"--ray {address}: {_line(error)}; what was done stays: give the same command again."
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables that processes inherit which are begun meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stderr, by C++ neither: while Ray begins it tells each try to reach a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # and later what it cannot help
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _refuse_silent(address: str) -> None:
    """Tell in seconds that no cluster answers: Ray itself tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise ValueError(
            f"--ray {address}: give local, auto or the host:port of a cluster, and run the command "
            "on one of its machines."
        )
    try:
        with socket.create_connection((host, int(port)), _WAIT) as connection:
            connection.settimeout(_WAIT)
            connection.sendall(_HELLO)
            answer = connection.recv(4)
    except (OSError, OverflowError) as error:
        raise _nobody(address, str(error)) from error
    if answer[3:] != _SETTINGS:
        raise _nobody(address, "something else does")


def _nobody(address: str, why: str) -> ValueError:
    return ValueError(
        f"--ray {address}: no cluster answers there ({why}); begin one with `ray start --head`, or "
        "give local."
    )


def _line(error: BaseException | None) -> str:
    """The last line of what went wrong, which names the cause."""
    found = type(error).__name__
    while error is not None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found = lines[-1] if lines else found
        error = error.__cause__
    return found.rstrip(".")


def _pipeline(
    job: Job,
    model: str | None,
    how_loaded: Mapping[str, Any],
    tries: RemoteTries,
    plan: Plan,
    records: list[Record],
) -> Any:
    """The pipeline: a lazy dataset of what becomes of these records."""
    share, workers, readers = _shares(model, how_loaded, job, plan)
    size = max(1, min(_BATCH, -(-len(records) // (2 * workers))))
    rows = [{RECORD: as_text(record)} for record in records]
    # A block for each batch: what a killed worker had done of its block is done again.
    found = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
    if readers:
        arguments = {"model": model, "sampling": job.sampling, "job": job, "tries": tries}
        arguments["folder"] = os.getcwd()
        pool = ray.data.ActorPoolStrategy(size=readers)
        found = found.map_batches(
            _Reader,
            fn_constructor_kwargs=arguments,
            batch_size=1,
            compute=pool,
            num_cpus=share["readers"],
        )
    arguments = {"job": job, "model": model, "how_loaded": dict(how_loaded), "tries": tries}
    arguments |= {"folder": os.getcwd(), "expected": software()}
    return found.map_batches(
        _Actor,
        fn_constructor_kwargs=arguments,
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=share["workers"],
        num_gpus=share["gpus"],
    )


def _shares(
    model: str | None, how_loaded: Mapping[str, Any], job: Job, plan: Plan
) -> tuple[dict[str, float], int, int]:
    """CPUs and GPUs of each worker, CPUs of each reader, and how many there are of both.

    On GPUs a worker for each, and CPUs read. On CPUs workers read themselves: a small model has a
    worker for each CPU, another one for each machine.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    on_gpus = gpus and str(how_loaded.get("device") or "cuda").startswith("cuda")
    small = model is None or checkpoint_of(model) is None
    if on_gpus:
        each, workers = 1, plan.workers or gpus
    elif small:
        each, workers = 1, plan.workers or sum(cpus)
    else:
        usable = [count for count in cpus if count]
        each, workers = min(usable, default=1), plan.workers or len(usable)
    readers = plan.readers
    if readers is None:
        readers = max(1, sum(cpus) - workers) if on_gpus else 0
    if job.sampling.get("num_frames") == "auto" or not (small or _is_slow_fast(model)):
        readers = 0
    # Readers and workers of one CPU share it: else the ones could keep the others from beginning.
    part = 0.5 if readers and each * workers + readers > sum(cpus) else 1.0
    return (
        {"workers": each * part, "gpus": float(bool(on_gpus)), "readers": part},
        max(1, workers),
        readers,
    )


def _is_slow_fast(model: str | None) -> bool:
    checkpoint = checkpoint_of(model or PACKAGED)
    return checkpoint is None or not is_of_transformers(checkpoint)


def _outcomes(job: Job, stages: Any, records: list[Record]) -> Outcomes:
    """What becomes of records, each once.

    Ray does again what dies; then blocks may come differently cut, with a row twice or without one.
    So who has come is counted here.
    """
    job.prepare()
    left = {record.id: record for record in records}
    for _ in range(_ROUNDS):
        if not left:
            return
        for row in _rows(stages(list(left.values()))):
            if row["fatal"]:
                raise OSError(
                    f"{row['fatal'].rstrip('.')}; what was done stays: give the same command again."
                )
            record = left.pop(Record(**json.loads(row[RECORD])).id, None)
            if record is not None:
                failed = row["error"]
                yield record, ValueError(failed) if failed else json.loads(row["result"])
    for record in left.values():
        yield record, ValueError(f"came back from no worker, {_ROUNDS} times.")


def _rows(found: Any) -> Iterator[dict[str, Any]]:
    """Rows as soon as they are there."""
    for block in found.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from block.to_pylist()
