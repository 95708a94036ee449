"""CPU seconds of `slowfast ask`, by how much of the engine a question needs.

Three ways take turns, each a command of its own in the same cache: the video is looked at for the
first time (another copy of it, each time), it was looked at before and the whole engine is loaded
(as `--seed` needs it, which changes no likeliest answer), and it
was looked at before and nothing but the question is asked, which needs no torch. Answers must be
the same. With `--model`, of an exported model (`slowfast export`).

    python benchmarks/start_up.py [--repeats 9] [--model FOLDER]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "shapes.mp4"
ASK = [sys.executable, "-m", "slowfast_cli", "ask"]
QUESTION = "How does the camera move?"


def run(home: str, video: Path, *more: str) -> tuple[float, float, bytes]:
    """CPU seconds, seconds, and the answer."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [*ASK, str(video), QUESTION, *more]
    env = {**os.environ, "XDG_CACHE_HOME": home}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, check=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, took, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--model")
    options = parser.parse_args()
    more = [] if options.model is None else ["--model", options.model]
    found: dict[str, list[tuple[float, float, bytes]]] = {}
    with tempfile.TemporaryDirectory() as home:
        run(home, EXAMPLE, *more)  # from now on the video is known
        for number in range(options.repeats):
            fresh = Path(home, f"{number}.mp4")  # another content by a byte that no player reads
            fresh.write_bytes(EXAMPLE.read_bytes() + number.to_bytes(8, "big"))
            ways = {
                "first look": (fresh,),
                "whole engine": (EXAMPLE, "--seed", "0"),
                "without torch": (EXAMPLE,),
            }
            for way, (video, *extra) in ways.items():
                found.setdefault(way, []).append(run(home, video, *extra, *more))
    answers = {answer for told in found.values() for *_, answer in told}
    if len(answers) > 1:
        sys.exit(f"the answers differ: {answers}")
    medians = {
        way: {
            kind: round(statistics.median(one[at] for one in told), 3)
            for at, kind in enumerate(("cpu", "seconds"))
        }
        for way, told in found.items()
    }
    whole, quick = medians["whole engine"], medians["without torch"]
    times = {kind: round(whole[kind] / quick[kind], 2) for kind in whole}
    print(json.dumps({**medians, "times": times}, indent=2))


if __name__ == "__main__":
    main()
