"""On paper, from measured stages: what 10^8 clips cost, and what is too slow at each size.

Measured here, on one thread, as seconds of a core: reading a clip of the procedural world; encoding
it and writing a caption with the packaged model; writing a row into the results' file. And how long
a worker takes until it has loaded the model, and what a record takes of memory in the program that
asks. Assumed: what machines cost and what storage gives (options). Then every part has a rate, the
slowest is the whole's, and the table says which that is.

With --gpu-seconds (encoding and answering one clip, measured elsewhere) machines have GPUs.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--clips 32] [--cores 16] [--price 0.5]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from slowfast_mini import world
from slowfast_mllm.bulk.jobs import Captions
from slowfast_mllm.bulk.stages import VideoReader, Worker, as_text
from slowfast_mllm.tasks.caption import Captioning
from slowfast_mllm.tasks.many import Outcomes, results_into
from slowfast_mllm.tasks.records import Record

_CLIPS = 8  # of the procedural world, which take longer to make than to look at
_ROWS = 5000  # that are written, and held, to see what one takes
_DRIVER = 8 * 2**30  # bytes of memory of the program that asks


@dataclass(frozen=True)
class Stages:
    """What a clip takes.

    Attributes:
        read, look, row: seconds of a core: decoding; encoding and answering; writing the row.
        clip, held: bytes of its file, and of memory where the rows are written.
        start: seconds until a worker has loaded the model.
    """

    read: float
    look: float
    row: float
    clip: float
    held: float
    start: float


def measure(count: int) -> Stages:
    """Of so many clips."""
    torch.set_num_threads(1)
    job, began = Captions(Captioning()), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import slowfast_mllm as m; m.load()"], check=True)
    start = time.perf_counter() - began
    worker = Worker(job, how_loaded={"device": "cpu"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{seed}.mp4" for seed in range(_CLIPS)]
        for seed, path in enumerate(files):
            world.write_video(world.sample_script(seed), path)
        size = sum(path.stat().st_size for path in files) / _CLIPS
        texts = [as_text(Record(f"{n}", str(files[n % _CLIPS]))) for n in range(count)]
        reader = VideoReader(job=job)
        reader({"record": texts[:2]})
        worker({"record": texts[:2]})
        began = time.process_time()
        read = reader({"record": texts})
        between = time.process_time()
        text = worker(read)["result"][0]
        reading, looking = between - began, time.process_time() - between

        def rows(left: list[Record]) -> Outcomes:
            return ((record, json.loads(text)) for record in left)

        tracemalloc.start()
        many = [Record(f"{folder}/{n:08}.mp4", f"{folder}/{n:08}.mp4") for n in range(_ROWS)]
        results_into(folder / "out.jsonl", {}, many, rows)
        held = tracemalloc.get_traced_memory()[1] / _ROWS
        tracemalloc.stop()
        (folder / "out.jsonl").unlink()
        began = time.process_time()
        results_into(folder / "out.jsonl", {}, many, rows)
        write = (time.process_time() - began) / _ROWS
    return Stages(reading / count, looking / count, write, size, held, start)


def rates(stages: Stages, machines: int, options: Any) -> dict[str, float]:
    """Clips a second that each part could do."""
    cores = machines * options.cores
    shared = {
        "storage": options.storage * 1e9 / stages.clip,
        "writing rows": options.drivers / stages.row,
    }
    if options.gpu_seconds is None:
        return {"cores": cores / (stages.read + stages.look), **shared}
    gpus = machines * options.gpus / options.gpu_seconds
    return {"reading (cores)": cores / stages.read, "GPUs": gpus, **shared}


def duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def table(stages: Stages, options: Any) -> None:
    print("| clips | machines | clips/s | takes | per million | slowest |")
    print("|---|---|---|---|---|---|")
    for clips in (10**4, 10**6, 10**8):
        for machines in (1, 10, 100, 1000):
            parts = rates(stages, machines, options)
            slowest = min(parts, key=lambda part: parts[part])
            work = clips / parts[slowest]
            if stages.start > work:
                slowest = "loading the model"
            whole = stages.start + work
            cost = machines * options.price * whole / 3600 / clips * 1e6
            print(
                f"| {clips:,} | {machines:,} | {clips / whole:,.1f} | {duration(whole)} "
                f"| ${cost:,.2f} | {slowest} |"
            )


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=32, help="that are measured")
    parser.add_argument("--cores", type=int, default=16, help="of a machine")
    parser.add_argument("--gpus", type=int, default=8, help="of a machine, with --gpu-seconds")
    parser.add_argument("--gpu-seconds", type=float, help="to encode and answer a clip")
    parser.add_argument("--price", type=float, default=0.5, help="of a machine, dollars an hour")
    parser.add_argument("--storage", type=float, default=10.0, help="of clips, GB a second")
    parser.add_argument("--drivers", type=int, default=1, help="programs, each with a --shard")
    options = parser.parse_args()
    logging.set_verbosity_error()
    stages = measure(options.clips)
    fits = _DRIVER / stages.held / 1e6
    print(
        f"A clip: read {stages.read * 1e3:.1f} ms, encode and answer {stages.look * 1e3:.1f} ms, "
        f"its row {stages.row * 1e6:.0f} µs, file {stages.clip / 1e3:.0f} kB. "
        f"A program holds {stages.held:.0f} bytes a clip: {fits:.0f} million in 8 GiB. "
        f"Loading the model: {stages.start:.1f} s.\n"
    )
    table(stages, options)


if __name__ == "__main__":
    main()
