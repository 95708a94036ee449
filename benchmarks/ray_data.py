"""What Ray Data costs beside one process, what a second worker gives, and that rows are equal.

The same clips of the procedural world are captioned with the packaged model by `do_here` on one
thread, then by one and by two workers of a local Ray cluster (a worker is one thread, too), in
turns. The rate is that of the clips after the first batch, so it is without what comes once: Ray,
and loading the model; that stands beside it. Needs as many free cores as workers.

    OMP_NUM_THREADS=1 python benchmarks/ray_data.py [--clips 400] [--repeats 3] [--readers 0]
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from slowfast_mini import world
from slowfast_mllm import load
from slowfast_mllm.bulk.jobs import Captions, do_here
from slowfast_mllm.bulk.ray import Plan, do_on_cluster
from slowfast_mllm.tasks.caption import Captioning
from slowfast_mllm.tasks.many import Progress
from slowfast_mllm.tasks.records import Record, read_records

_FILES = 16
_FIRST = 32  # clips that are not timed: the first batch of each of two workers


def timed(do: Any, output: Path) -> tuple[float, float, list[dict[str, Any]]]:
    """Clips a second after the first ones, seconds until the first, and the rows in order."""
    began, times = time.perf_counter(), []

    def note(progress: Progress) -> None:
        if progress.done:
            times.append(time.perf_counter())

    do(output=output, on_progress=note)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["timing"]
    rate = (len(times) - _FIRST) / (times[-1] - times[_FIRST - 1])
    return rate, times[0] - began, sorted(rows, key=lambda row: row["id"])


def write_clips(folder: Path, count: int) -> list[Record]:
    """As many records, of a few files: to make one takes longer than to caption it."""
    for seed in range(_FILES):
        world.write_video(world.sample_script(seed), folder / f"{seed}.mp4")
    files = read_records([folder])
    return [Record(f"{n:05}", files[n % len(files)].video) for n in range(count)]


def main() -> None:
    """Parse the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--readers", type=int, default=0, help="actors that read for the workers")
    options = parser.parse_args()
    if options.clips <= 2 * _FIRST:
        parser.error(f"--clips: give more than {2 * _FIRST}")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    job, found = Captions(Captioning()), {}
    assistant = load(device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        records = write_clips(folder / "clips", options.clips)
        ways = {"one process": partial(do_here, job, assistant, records)}
        for count in (1, 2):
            plan = Plan(count, options.readers)
            ways[f"Ray, {count} worker{'s' * (count > 1)}"] = partial(
                do_on_cluster, "local", job, records, how_loaded={"device": "cpu"}, plan=plan
            )
        for turn in range(options.repeats):
            for way, do in ways.items():
                found.setdefault(way, []).append(timed(do, folder / f"{turn} {way}.jsonl"))
    alone = found["one process"]
    print("| | clips/s | to one process | rows that differ | until the first row, s |")
    print("|---|---|---|---|---|")
    for way, turns in found.items():
        ratio = statistics.median(
            mine[0] / other[0] for mine, other in zip(turns, alone, strict=True)
        )
        rate, start = (statistics.median(turn[part] for turn in turns) for part in (0, 1))
        pairs = [zip(turn[2], alone[0][2], strict=True) for turn in turns]
        differ = sum(mine != other for pair in pairs for mine, other in pair)
        print(f"| {way} | {rate:.2f} | {ratio:.2f} | {differ} | {start:.1f} |")


if __name__ == "__main__":
    main()
