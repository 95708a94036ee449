"""What other work on the cores does to a question, with waiting threads that spin and that sleep.

Each setting is a process of its own: as it is, where the model chooses its threads by its size; or
torch with so many threads, as a user says by `OMP_NUM_THREADS`, which spin where they wait for one
another (`OMP_WAIT_POLICY=ACTIVE`), sleep (PASSIVE), or spin 2,000 times and sleep then (the command
line's `GOMP_SPINCOUNT=2000`). Told are medians of a question about a video that was looked at
before, of looking at it, and of eight such questions answered together, as a multiple of one.
Settings take turns, quiet and beside a busy loop on every core; the baseline is the same setting,
quiet, in the same run.

    python benchmarks/contention.py [--rounds 3] [--model FOLDER]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from decoding import timed

from slowfast_mllm import load
from slowfast_mllm.engine import Request

EXAMPLE = Path(__file__).parents[1] / "examples" / "shapes.mp4"
QUESTION = "How does the camera move?"
POLICIES = ("OMP_WAIT_POLICY=ACTIVE", "OMP_WAIT_POLICY=PASSIVE", "GOMP_SPINCOUNT=2000")


def busy() -> None:
    while True:
        pass


def median(work: Callable[[], object], repeats: int) -> float:
    work()
    return statistics.median(timed(work) for _ in range(repeats))


def measured(model: str | None, threads: int) -> dict[str, float]:
    """Seconds of a held question and of encoding, and what eight questions at once gain.

    Args:
        threads: of torch; 0: as the model chooses.
    """
    if threads:
        torch.set_num_threads(threads)
    assistant = load(model, device="cpu")
    seen = assistant.encode(EXAMPLE)
    requests = [Request(seen, QUESTION) for _ in range(8)]
    held = median(lambda: assistant.ask(seen, QUESTION, max_new_tokens=16), 15)
    return {
        "held": held,
        "encode": median(lambda: assistant.encode(EXAMPLE), 3),
        "eight": 8 * held / median(lambda: list(assistant.generate(requests)), 5),
    }


def in_a_process(model: str | None, threads: int, policy: str) -> dict[str, float]:
    words = [sys.executable, __file__, "--threads", str(threads)]
    words += [] if model is None else ["--model", model]
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    if threads:
        name, _, value = policy.partition("=")
        environment |= {name: value, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(words, env=environment, capture_output=True, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, help="measure once, in this process (0: as it is)")
    options = parser.parse_args()
    if options.threads is not None:
        print(json.dumps(measured(options.model, options.threads)))
        return
    cores = len(os.sched_getaffinity(0))
    settings = [(threads, policy) for threads in sorted({1, cores}) for policy in POLICIES]
    settings.insert(0, (0, "as it is"))
    found: dict[tuple[int, str, bool], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for loaded in (False, True):
            count = cores if loaded else 0
            others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(count)]
            for other in others:
                other.start()
            for threads, policy in settings:
                told = in_a_process(options.model, threads, policy)
                found.setdefault((threads, policy, loaded), []).append(told)
            for other in others:
                other.kill()
    print("| threads | waiting | cores | held, ms | encode, ms | held, of quiet | eight, of one |")
    print("|---|---|---|---|---|---|---|")
    for (threads, policy, loaded), told in found.items():
        held, encode, eight = (
            statistics.median(one[name] for one in told) for name in ("held", "encode", "eight")
        )
        quiet = statistics.median(one["held"] for one in found[threads, policy, False])
        print(
            f"| {threads or 'chosen'} | {policy} | {'busy' if loaded else 'quiet'} "
            f"| {1e3 * held:.1f} "
            f"| {1e3 * encode:.0f} | {held / quiet:.2f} | {eight:.2f} |"
        )


if __name__ == "__main__":
    main()
