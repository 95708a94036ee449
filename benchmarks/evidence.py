"""How often what an answer read most is the inserted picture that the question asks about.

On clips of the procedural world with one such picture (a needle), seeds that no training draws.
Also what asking for evidence costs, in CPU time on one thread, on and off in turn: of the first
question about a clip, and of a later one, where what all questions share is kept. Chance is the
share of frames that show the needle. `--frames 1536` looks at one clip and tells the memory.

    python benchmarks/evidence.py --clips 200
    python benchmarks/evidence.py --frames 1536
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import EncodedVideo
from slowfast_mllm.engine.encoded_video import AT_HAND
from slowfast_mllm.video import VideoInfo

_CHUNK = 32  # frames
_FIRST, _LATER = "the first", "a later"


@dataclass(frozen=True)
class Needle:
    """A clip, the question about its inserted picture, and the frames that show it."""

    video: EncodedVideo
    question: world.QA
    shown: list[int]


def encoded(assistant: SlowFast, clip: world.Clip) -> EncodedVideo:
    """As the engine would, some frames at a time, with the clip's own times: an array has none."""
    processor = assistant.processor.video_processor
    times = torch.from_numpy(clip.timestamps)
    chunks = (
        processor(clip.frames[at : at + _CHUNK], do_sample_frames=False)["pixel_values_videos"][0]
        for at in range(0, len(times), _CHUNK)
    )
    with torch.no_grad():
        memory = assistant.model.encode_video(chunks, times)
    count, height, width = clip.frames.shape[:3]
    side = processor.crop_size["height"]
    prompt = assistant.processor.token_layout.video_text(
        assistant.processor.video_token,
        times if assistant.processor.write_timestamps else None,
        *(count, side, side),
    )
    facts: dict[str, Any] = {"num_frames": count, "height": height, "width": width}
    rate = count / clip.script.duration
    info = VideoInfo("<world>", duration=clip.script.duration, fps=rate, codec="raw", **facts)
    return EncodedVideo(memory, prompt, info, list(range(count)), times.tolist(), AT_HAND)


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
            yield Needle(encoded(assistant, clip), asked[0], shown)


def timed(assistant: SlowFast, one: Needle, which: str, evidence: bool) -> tuple[Any, float]:
    """An answer, and the CPU seconds that it took."""
    video = one.video
    if which == _FIRST:  # what was read of this memory is kept for no other
        video = replace(video, memory=replace(video.memory))
    began = time.process_time()
    asked = one.question.question
    answer = assistant.ask(video, asked, max_new_tokens=32, evidence=evidence)
    return answer, time.process_time() - began


def peak() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the packaged one")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--seed", type=int, default=700_000)
    parser.add_argument("--turns", type=int, default=2, help="of on and off, for each clip")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    assistant = load(arguments.model, device="cpu")
    clips = 1 if arguments.frames > 512 else arguments.clips
    right = found = spanned = same = 0
    chance = []
    seconds: dict[tuple[str, bool], list[float]] = {}
    found_clips = needles(assistant, arguments.seed, arguments.frames)
    for number, one in enumerate(islice(found_clips, clips)):
        if number == 0:
            print(f"largest memory {peak():.2f} GiB before the first question")
            timed(assistant, one, _LATER, evidence=True)
        answers = {}
        for turn in range(arguments.turns):
            for which in (_FIRST, _LATER):
                for evidence in (False, True) if turn % 2 else (True, False):
                    answers[evidence], spent = timed(assistant, one, which, evidence)
                    seconds.setdefault((which, evidence), []).append(spent)
        plain, told = answers[False], answers[True]
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
    for which in (_FIRST, _LATER):
        off, on = (statistics.median(seconds[which, evidence]) for evidence in (False, True))
        print(f"CPU seconds of {which} question: {off:.3f} off, {on:.3f} on: {on / off:.2f} times")
    print(f"largest memory {peak():.2f} GiB")


if __name__ == "__main__":
    main()
