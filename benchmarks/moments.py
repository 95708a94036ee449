"""How exactly `ground` finds when a shape is seen, on drawn clips whose scripts say it.

Of each clip one shape that comes or goes (where there is one), and one that is never there. Prints
how far starts and ends are from the truth, and how often "not found" is right.

    python benchmarks/moments.py --clips 50 [--first 500000] [--model NAME]
"""

import argparse
import statistics
import time

import numpy as np

from slowfast_mini import world
from slowfast_mllm import load
from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks import ground_video

_RATE, _SIZE = 12, 192  # frames a second and pixels of the drawn clips
_SOON = 0.4  # seconds: what comes or goes so close to an end is left out


def named(color: str, shape: str) -> str:
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {shape}"


def comes_or_goes(script: world.Script) -> world.Object | None:
    """A shape of one colour, alone of its kind, that is not there all the time."""
    kinds = [(thing.color, thing.shape) for thing in script.objects]
    kinds += [(script.needle.color, script.needle.shape)] if script.needle else []
    for thing in script.objects:
        alone = kinds.count((thing.color, thing.shape)) == 1 and thing.change is None
        late = thing.appear > _SOON or thing.disappear < script.duration - _SOON
        if alone and late and thing.disappear - thing.appear > _SOON:
            return thing
    return None


def never_there(script: world.Script, rng: np.random.Generator) -> str:
    seen = {(thing.color, thing.shape) for thing in script.objects}
    seen |= {(t.change.color, t.shape) for t in script.objects if t.change}
    seen |= {(script.needle.color, script.needle.shape)} if script.needle else set()
    pairs = [(c, s) for c in world.COLORS for s in world.SHAPES if (c, s) not in seen]
    return named(*pairs[int(rng.integers(len(pairs)))])


def main(assistant: Assistant, first: int, clips: int) -> None:
    errors: list[float] = []
    missed = rightly_not_found = asked = 0
    began = time.perf_counter()
    for seed in range(first, first + clips):
        script = world.sample_script(seed)
        frames = world.render(script, np.arange(int(script.duration * _RATE)) / _RATE, _SIZE)
        absent = never_there(script, np.random.default_rng(seed))
        rightly_not_found += not ground_video(
            assistant, frames, absent, frames_fps=_RATE, fps=8
        ).found
        if (thing := comes_or_goes(script)) is None:
            continue
        asked += 1
        words = named(thing.color, thing.shape)
        found = ground_video(assistant, frames, words, frames_fps=_RATE, fps=8)
        if not found.found:
            missed += 1
            continue
        end = min(thing.disappear, script.duration)
        errors += [abs(found.spans[0].start - thing.appear), abs(found.spans[-1].end - end)]
    print(f"{asked} shapes that come or go: {missed} missed")
    if errors:
        close = sum(error <= 0.5 for error in errors) / len(errors)
        print(f"edges: median error {statistics.median(errors):.2f} s, within 0.5 s: {close:.0%}")
    print(f"not found where nothing is there: {rightly_not_found} of {clips}")
    print(f"{(time.perf_counter() - began) / (clips + asked):.1f} s a question")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--first", type=int, default=500_000)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    main(load(arguments.model), arguments.first, arguments.clips)
