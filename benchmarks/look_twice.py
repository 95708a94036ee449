"""How often a second look finds what the first one missed, and what it spoils.

On clips of the procedural world, seeds that no training draws, rendered at 30 frames a second. The
flashed letter, or the inserted picture, is made one to three frames long and moved between two
frames that the first look takes in, so that it misses it. Asked about it are the model with one
look and with two. Beside these, the same question about clips without a letter or picture (the
right answer is that there is none), and another question about each clip: is it still right?

    python benchmarks/look_twice.py --clips 100
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slowfast_mini import world
from slowfast_mini.things import is_known_now
from slowfast_mini.world.script import Script
from slowfast_mllm import Answer, SlowFast, load
from slowfast_mllm.tasks.look_twice import ask_twice
from slowfast_mllm.video import uniform_indices

FPS = 30
KINDS = {"flash": "text", "needle": "needle"}  # what is in a script, and the type of its question


@dataclass(frozen=True)
class Case:
    """A clip, and what of it one look at so many frames cannot show.

    Attributes:
        shown: positions of the frames that show it; none where it is not there.
        asked: the question about it, and its right answer.
        other: a question about something else.
    """

    frames: np.ndarray
    shown: range
    asked: world.QA
    other: world.QA | None


def between(script: Script, kind: str, num_frames: int) -> tuple[Script, range] | None:
    """The script with its flash or needle between two frames of `num_frames`; None: no room."""
    count = round(script.duration * FPS)
    looked = uniform_indices(count, num_frames)
    happening = getattr(script, kind)
    gap = int(np.searchsorted(looked, happening.time * FPS))
    if not 0 < gap < num_frames or looked[gap] - looked[gap - 1] < 2:
        return None
    rng = np.random.default_rng(script.seed)
    first, last = int(looked[gap - 1]) + 1, int(looked[gap])
    length = int(rng.integers(1, min(3, last - first) + 1))
    start = int(rng.integers(first, last - length + 1))
    brief = replace(happening, time=(start - 0.5) / FPS, duration=length / FPS)
    return replace(script, **{kind: brief}), range(start, start + length)


def cases(kind: str, present: bool, first_seed: int, num_frames: int, size: int) -> Iterator[Case]:
    """Without end; of clips that have what is asked about, or have it not."""
    seed = first_seed
    while True:
        seed += 1
        script = world.sample_script(seed)
        if (getattr(script, kind) is None) is present:
            continue
        moved = between(script, kind, num_frames) if present else (script, range(0))
        if moved is None:
            continue
        script, shown = moved
        times = np.arange(round(script.duration * FPS)) / FPS
        questions = world.questions(script, seed, times)
        asked = [qa for qa in questions if qa.type == KINDS[kind]]
        others = [qa for qa in questions if qa.type not in KINDS.values() and not is_known_now(qa)]
        if asked:
            other = others[seed % len(others)] if others else None
            yield Case(world.render(script, times, size), shown, asked[0], other)


def both_looks(assistant: SlowFast, case: Case, qa: world.QA, num_frames: int) -> Answer:
    options: dict[str, Any] = {"num_frames": num_frames, "max_new_tokens": 48}
    return ask_twice(assistant, case.frames, qa.question, frames_fps=FPS, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the packaged one")
    parser.add_argument("--clips", type=int, default=100, help="of each kind, with and without")
    parser.add_argument("--frames", type=int, default=32, help="of the first look")
    parser.add_argument("--seed", type=int, default=800_000)
    arguments = parser.parse_args()
    assistant = load(arguments.model, device="cpu")
    size = assistant.model.config.frame_size
    others: Counter[str] = Counter()
    for kind in KINDS:
        for present in (True, False):
            told: Counter[str] = Counter()
            found = cases(kind, present, arguments.seed, arguments.frames, size)
            for _, case in zip(range(arguments.clips), found, strict=False):
                answer = both_looks(assistant, case, case.asked, arguments.frames)
                assert answer.looks is not None
                told["first"] += world.score(case.asked, answer.looks[0].text)
                told["second"] += world.score(case.asked, answer.text)
                told["sampled"] += bool({*case.shown} & {*answer.frame_indices})
                told["again"] += len(answer.looks) - 1
                told["added"] += len(answer.frame_indices) - len(answer.looks[0].frame_indices)
                if case.other is not None and present:
                    answer = both_looks(assistant, case, case.other, arguments.frames)
                    assert answer.looks is not None
                    before = world.score(case.other, answer.looks[0].text)
                    others[f"{before:d} then {world.score(case.other, answer.text):d}"] += 1
            shares = {name: f"{count / arguments.clips:.1%}" for name, count in told.items()}
            there = f"in the second look {shares['sampled']}, " if present else "not there; "
            print(
                f"{arguments.clips} clips, {kind} {there}answer right: one look {shares['first']}, "
                f"two {shares['second']}; looked again at {shares['again']}, "
                f"{told['added'] / arguments.clips:.1f} frames more",
                flush=True,
            )
    right = others["1 then 0"] + others["1 then 1"]
    print(
        f"{others.total()} other questions: {right} right with one look, {others['1 then 0']} of "
        f"which the second spoiled; it mended {others['0 then 1']}"
    )


if __name__ == "__main__":
    main()
