"""What a question costs from a shell, with a model of one's own and by way of a server.

`slowfast ask` runs both ways in turns, about a video that both know, and must say the same. Told
are medians of CPU seconds of the command (without the server's) and of seconds by the clock.

    python benchmarks/shell.py [--repeats 9]
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

from soak import EXAMPLE, server

ASK = [sys.executable, "-m", "slowfast_cli", "ask", str(EXAMPLE), "How does the camera move?"]


def run(home: str, *more: str) -> tuple[float, float, bytes]:
    """CPU seconds, seconds, and the answer."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, "XDG_CACHE_HOME": home}
    done = subprocess.run([*ASK, *more], env=env, stdout=subprocess.PIPE, check=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, took, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as home, server() as (url, _):
        ways = {"a model of its own": (), "a server": ("--server", url)}
        for more in ways.values():
            run(home, *more)  # from now on the video is known
        pairs = [{way: run(home, *more) for way, more in ways.items()} for _ in range(repeats)]
    answers = {run[2] for pair in pairs for run in pair.values()}
    if len(answers) > 1:
        sys.exit(f"the answers differ: {answers}")
    median = {
        way: {
            kind: round(statistics.median(pair[way][index] for pair in pairs), 3)
            for index, kind in enumerate(("cpu", "seconds"))
        }
        for way in ways
    }
    own, served = median.values()
    times = {kind: round(own[kind] / served[kind], 1) for kind in own}
    print(json.dumps({**median, "times": times}, indent=2))


if __name__ == "__main__":
    main()
