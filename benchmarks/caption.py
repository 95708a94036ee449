"""How much quicker many clips are captioned together than by `ask` in a loop, in one process.

The same clips of the procedural world, written as mp4 files, captioned with the packaged model in
turns: `ask` one after the other, then `caption_into` a new file; both are warm. Prints clips per
second, their ratio (of each turn, and the median) and how many captions are the same, and then the
memory of the process over a longer run, which must not grow.

    python benchmarks/caption.py [--clips 100] [--repeats 3] [--long 2000]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from transformers.utils import logging

from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import DESCRIBE
from slowfast_mllm.tasks.caption import Captioning, Progress, caption_into
from slowfast_mllm.tasks.records import Record, read_records


def write_clips(folder: Path, count: int) -> None:
    for seed in range(count):
        world.write_video(world.sample_script(seed), folder / f"{seed:04}.mp4")


def in_a_loop(assistant: SlowFast, records: list[Record]) -> tuple[float, dict[str, str]]:
    began = time.perf_counter()
    told = {record.id: assistant.ask(record.video, DESCRIBE).text for record in records}
    return time.perf_counter() - began, told


def together(
    assistant: SlowFast, records: list[Record], max_batch: int
) -> tuple[float, dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        began = time.perf_counter()
        caption_into(output, assistant, records, Captioning(), max_batch=max_batch)
        seconds = time.perf_counter() - began
        rows = map(json.loads, output.read_text(encoding="utf-8").splitlines())
        return seconds, {row["id"]: row["caption"] for row in rows}


def resident() -> float:
    """Megabytes of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory_over(assistant: SlowFast, records: list[Record], count: int, max_batch: int) -> None:
    """Resident memory after each tenth of so many captions."""
    many = [Record(f"{i}", records[i % len(records)].video) for i in range(count)]
    steps: list[str] = []

    def note(progress: Progress) -> None:
        if progress.done and progress.done % max(1, count // 10) == 0:
            steps.append(f"{progress.done}: {resident():.0f}")

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        caption_into(output, assistant, many, Captioning(), note, max_batch)
    print(f"\nMB after so many captions: {', '.join(steps)}")


def main() -> None:
    """Parse the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--long", type=int, default=2000, help="captions; 0: not measured")
    options = parser.parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), options.clips)
        records = read_records([folder])
        assistant = load()
        in_a_loop(assistant, records[:2])
        together(assistant, records[:2], options.batch)
        print("| turn | ask in a loop, clips/s | caption, clips/s | ratio | same words |")
        print("|---|---|---|---|---|")
        ratios = []
        for turn in range(options.repeats):
            alone, told = in_a_loop(assistant, records)
            batch, captions = together(assistant, records, options.batch)
            ratios.append(alone / batch)
            same = sum(captions[id] == text for id, text in told.items())
            count = len(records)
            print(
                f"| {turn + 1} | {count / alone:.2f} | {count / batch:.2f} | {ratios[-1]:.2f} "
                f"| {same} of {count} |",
                flush=True,
            )
        print(f"\nMedian ratio: {statistics.median(ratios):.2f}")
        if options.long:
            memory_over(assistant, records, options.long, options.batch)


if __name__ == "__main__":
    main()
