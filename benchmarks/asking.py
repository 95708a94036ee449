"""What asking again and asking together save, in one run.

First and second question: seconds to the first token of a question about a clip that was never seen
(reading, preprocessing, encoding, prefill), of one whose memory is on disk, and of one that the
program holds and was asked about before, of which only the question is read; with the packaged
model, and with a random one of the dimensions of Qwen2-0.5B and the published vision tower (two
frames: on CPUs the tower takes seconds a frame). The clip, unless one is given, is made: 30 s of
720p. Together: questions per second about clips that are encoded already, in a batch of one (the
baseline) and in larger ones, with the packaged model.

    python benchmarks/asking.py [VIDEO] [--questions 48] [--repeats 3]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from decoding import make_model
from transformers import AutoTokenizer
from transformers.utils import logging
from video_reading import Clip, make_clip

from slowfast_mllm import SlowFast, SlowFastProcessor, load
from slowfast_mllm.engine import MemoryCache, Request
from slowfast_mllm.model import SlowFastVisionConfig

MADE = Clip("30 s of 720p", 1280, 720, 30, 30, part=30)
TOKENIZER = Path(__file__).parents[1] / "src" / "slowfast_mini" / "weights"
QUESTION = "How does the camera move?"
QUESTIONS = (QUESTION, "What happens in the video?", "How many objects appear?", "Is there a fade?")


def half_billion(folder: Path) -> Path:
    """A checkpoint: random weights, the published tower, the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    model = make_model([0, 8, 16], torch.bfloat16, SlowFastVisionConfig())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    SlowFastProcessor.from_config(model.config, tokenizer).save_pretrained(folder)
    return folder


def to_first_token(assistant: SlowFast, video: Any, **options: Any) -> tuple[float, str]:
    answer = assistant.ask(video, QUESTION, **options)
    parts = ("read", "preprocess", "encode", "prefill")
    return sum(answer.timing[part] for part in parts), answer.text


def asking_again(
    name: str,
    model: Path | None,
    video: Path,
    repeats: int,
    num_frames: int | None = None,
    **options: Any,
) -> None:
    firsts, seconds, thirds = [], [], []
    assistant = load(model)
    assistant.fingerprint  # noqa: B018 - part of loading, not of asking
    to_first_token(
        assistant, video, num_frames=num_frames, **options
    )  # weights are read when first used
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            assistant.cache = MemoryCache(Path(folder))
            first, words = to_first_token(assistant, video, num_frames=num_frames, **options)
            second, again = to_first_token(assistant, video, num_frames=num_frames, **options)
            held = assistant.encode(video, num_frames=num_frames)
            to_first_token(assistant, held, **options)
            third, once_more = to_first_token(assistant, held, **options)
            assert words == again == once_more
            firsts.append(first)
            seconds.append(second)
            thirds.append(third)
    first, second, third = map(statistics.median, (firsts, seconds, thirds))
    print(
        f"| {name} | {repeats} | {first * 1e3:.0f} | {second * 1e3:.0f} | {first / second:.1f} "
        f"| {third * 1e3:.0f} | {first / third:.1f} |",
        flush=True,
    )


def asking_together(video: Path, count: int, repeats: int) -> None:
    assistant = load()
    seen = [assistant.encode(video, num_frames=frames) for frames in (32, 24, 16, 8)]
    requests = [
        Request(seen[i % len(seen)], QUESTIONS[i // len(seen) % len(QUESTIONS)])
        for i in range(count)
    ]
    alone = [assistant.ask(r.video, r.question).text for r in requests]
    kinds = f"{len(QUESTIONS)} kinds about {len(seen)} memories"
    print(f"{count} questions of {kinds}, best of {repeats}\n")
    print("| batch | questions/s | speed-up | same answers as alone |")
    print("|---|---|---|---|")
    base = None
    for size in (1, 2, 4, 8, 16):
        took = []
        for _ in range(repeats):
            began = time.perf_counter()
            answers = list(assistant.generate(requests, max_batch=size))
            took.append(time.perf_counter() - began)
        same = sum(str(a) == b for a, b in zip(answers, alone, strict=True))
        rate = count / min(took)
        base = base or rate
        print(f"| {size} | {rate:.1f} | {rate / base:.2f} | {same} of {count} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder, video = Path(name), arguments.video
        if video is None:
            video = folder / MADE.file
            make_clip(MADE, video)
        print(f"Asking {video.name} again (medians; the same answers)\n")
        print(
            "| model | times | first question, ms | memory on disk, ms | speed-up "
            "| memory held, ms | speed-up |"
        )
        print("|---|---|---|---|---|---|---|")
        asking_again("packaged, 32 frames", None, video, arguments.repeats)
        shape = "Qwen2-0.5B dimensions, ConvNeXt-XXL, 2 frames"
        large = half_billion(folder)
        asking_again(shape, large, video, 1, num_frames=2, max_new_tokens=2)
        print()
        asking_together(video, arguments.questions, arguments.repeats)


if __name__ == "__main__":
    main()
