"""How fast clips of the procedural world are made, beside what the packaged model's tower takes.

Training needs a clip when the tower has seen the last one: a ratio below 1 means that one process
which draws keeps the tower busy. One thread each. Prints a Markdown table.

    python benchmarks/world_rendering.py
"""

import argparse
import time
from collections.abc import Callable

import torch

from slowfast_mini import world
from slowfast_mini.lessons.world_data import normalise
from slowfast_mllm import load

FRAMES, SIDE = 32, 96


def seconds_each(work: Callable[[int], object], count: int) -> float:
    work(0)
    began = time.perf_counter()
    for seed in range(1, count + 1):
        work(seed)
    return (time.perf_counter() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100)
    count = parser.parse_args().clips
    torch.set_num_threads(1)
    model = load(dtype="bfloat16").model
    scripts = [world.sample_script(seed) for seed in range(count + 1)]
    times = [world.frame_times(script.duration, FRAMES) for script in scripts]
    pixels = normalise(world.render(scripts[0], times[0], SIDE)).to(model.dtype)

    def tower(_: int) -> object:
        with torch.no_grad():
            return model.model.vision_maps(pixels)

    parts: dict[str, Callable[[int], object]] = {
        "script": world.sample_script,
        "32 frames of 96 x 96 pixels": lambda i: world.render(scripts[i], times[i], SIDE),
        "dense labels": lambda i: world.dense_labels(scripts[i], times[i]),
        "questions": lambda i: world.questions(scripts[i], i, times[i]),
    }
    baseline = seconds_each(tower, count)
    each = {name: seconds_each(work, count) for name, work in parts.items()}
    each["whole clip"] = sum(each.values())
    each["the tower (baseline)"] = baseline
    print("| part | ms a clip | clips a second | ratio to the tower |\n|---|---|---|---|")
    for name, taken in each.items():
        print(f"| {name} | {taken * 1e3:.1f} | {1 / taken:.0f} | {taken / baseline:.2f} |")


if __name__ == "__main__":
    main()
