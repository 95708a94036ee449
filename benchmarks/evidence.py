"""How often what an answer read most is the inserted picture that the question asks about.

On clips of the procedural world with one such picture (a needle), seeds that no training draws.
Also what asking for evidence costs, on and off in turn on the same memory; chance is the share of
frames that show the needle. `--frames 1536` looks at one clip of many frames and tells the memory.

    python benchmarks/evidence.py --clips 200
    python benchmarks/evidence.py --frames 1536
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from world_accuracy import remember

from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import EncodedVideo
from slowfast_mllm.video import VideoInfo


@dataclass(frozen=True)
class Needle:
    """A clip, the question about its inserted picture, and the frames that show it."""

    video: EncodedVideo
    question: world.QA
    shown: list[int]
    encoding: float


def encoded(assistant: SlowFast, clip: world.Clip) -> EncodedVideo:
    """As the engine would, with the clip's own times: an array has none."""
    memory, prompt = remember(assistant, clip.frames, clip.timestamps)
    count, height, width = clip.frames.shape[:3]
    facts: dict[str, Any] = {"num_frames": count, "height": height, "width": width}
    rate = count / clip.script.duration
    info = VideoInfo("<world>", duration=clip.script.duration, fps=rate, codec="raw", **facts)
    times = clip.timestamps.tolist()
    return EncodedVideo(memory, prompt, info, list(range(count)), times, {})


def needles(assistant: SlowFast, first_seed: int, num_frames: int) -> Iterator[Needle]:
    """Clips with a needle that the sampled frames show, without end."""
    seed = first_seed
    while True:
        seed += 1
        if world.sample_script(seed).needle is None:
            continue
        clip = world.sample_clip(seed, num_frames=num_frames)
        shown = np.flatnonzero(clip.labels.needle).tolist()
        asked = [qa for qa in clip.questions if qa.type == "needle"]
        if shown and asked:
            began = time.perf_counter()
            video = encoded(assistant, clip)
            yield Needle(video, asked[0], shown, time.perf_counter() - began)


def timed(assistant: SlowFast, one: Needle, **options: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = assistant.ask(one.video, one.question.question, max_new_tokens=32, **options)
    return answer, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the packaged one")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--seed", type=int, default=700_000)
    arguments = parser.parse_args()
    assistant = load(arguments.model, device="cpu")
    clips = 1 if arguments.frames > 512 else arguments.clips
    right = found = spanned = same = 0
    chance, off, on, encoding = [], [], [], []
    for number, one in enumerate(needles(assistant, arguments.seed, arguments.frames)):
        if number == clips:
            break
        plain, before = timed(assistant, one)
        told, after = timed(assistant, one, evidence=True)
        off.append(before)
        on.append(after)
        encoding.append(one.encoding)
        chance.append(len(one.shown) / arguments.frames)
        right += world.score(one.question, plain.text)
        same += plain.text == told.text
        found += told.evidence.top[0].position in one.shown
        times = [one.video.timestamps[at] for at in one.shown]
        spans = told.evidence.spans
        # Spans are told to a tenth of a millisecond.
        spanned += any(s.start - 1e-4 <= at < s.end for s in spans for at in times)
    print(f"{clips} clips of {arguments.frames} frames with one needle")
    print(
        f"answers right {right / clips:.1%}, the same with evidence as without {same / clips:.1%}"
    )
    print(f"top frame shows the needle {found / clips:.1%}, chance {statistics.mean(chance):.1%}")
    print(f"a span holds it {spanned / clips:.1%}")
    ask, told_in, seen = (statistics.median(times) for times in (off, on, encoding))
    print(f"seconds a question: {ask:.3f} off, {told_in:.3f} on; encoding before it {seen:.3f}")
    print(f"with encoding, on takes {(seen + told_in) / (seen + ask):.2f} times as long as off")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"largest memory {peak / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
