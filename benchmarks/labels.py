"""How the time to classify grows with the number of labels, on one memory of one clip.

In CPU time on one thread, numbers of labels in turn. Each label by itself is a question of its own;
with `single`, all are answers to one.

    python benchmarks/labels.py [--video FILE] [--model NAME] [--repeats 5]
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import torch

from slowfast_mllm import load
from slowfast_mllm.tasks import classify_video

_NUMBERS = (1, 10, 50, 200)
_COLORS = "red green blue yellow white black orange purple pink brown grey cyan"
_THINGS = "disc square star triangle heart moon ring cross bird dog cat car tree house boat cup bed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=Path("examples/shapes.mp4"))
    parser.add_argument("--model", help="default: the packaged one")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    assistant = load(options.model)
    seen = assistant.encode(options.video)
    pairs = itertools.product(_COLORS.split(), _THINGS.split())
    labels = [f"a {color} {thing}" for color, thing in pairs]
    print(f"{len(seen.timestamps)} frames\n\n| labels | each, s | single, s |\n|---|---|---|")
    seconds: dict[tuple[int, bool], list[float]] = {}
    for turn in range(options.repeats + 1):
        for number, single in itertools.product(_NUMBERS, (False, True)):
            if single and number == 1:
                continue
            began = time.process_time()
            classify_video(assistant, seen, labels[:number], single=single)
            if turn:  # the first warms up
                seconds.setdefault((number, single), []).append(time.process_time() - began)
    median = {which: statistics.median(found) for which, found in seconds.items()}
    for number in _NUMBERS:
        alone = f"{median[number, True]:.3f}" if number > 1 else "-"
        print(f"| {number} | {median[number, False]:.3f} | {alone} |")
    for single in (False, True):
        ratio = median[200, single] / median[10, single]
        print(f"200 labels take {ratio:.1f} times as long as 10 {'(single)' if single else ''}")


if __name__ == "__main__":
    main()
