"""Accuracy of a model on unseen clips of the procedural world, per question type, beside chance.

The same questions five times: in words that training drew from and in words that it never draws, in
English and in Traditional Chinese, and with answers to choose from by letter. Chance is what one
answer given to all questions of a type would score in the first of these ways, or a choice drawn at
random if that is more; by letter it is another, and told apart. Prints a Markdown table.

    python benchmarks/world_accuracy.py --clips 300
"""

import argparse
import time
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import torch

from slowfast_mini import world
from slowfast_mini.things import is_known_now
from slowfast_mllm import SlowFast, load
from slowfast_mllm.model import VideoMemory

TURN = "<video>\n"
WAYS: dict[str, dict[str, Any]] = {
    "open": {},
    "held-out words": {"held_out": True},
    "zh-TW": {"language": "zh-TW"},
    "zh-TW held-out": {"language": "zh-TW", "held_out": True},
    "choice": {"multiple_choice": 1.0},
}


def remember(
    assistant: SlowFast, frames: np.ndarray, timestamps: np.ndarray
) -> tuple[VideoMemory, str]:
    """What the model keeps of a clip, and the placeholders that stand for it in a prompt."""
    processor, model = assistant.processor, assistant.model
    times = torch.from_numpy(timestamps)
    pixels = processor.video_processor(frames, do_sample_frames=False)
    prompt = processor.replace_video_token({**pixels, "video_timestamps": times[None]}, video_idx=0)
    with torch.no_grad():  # an array has no times of its own: give it the clip's
        memory = model.encode_video(pixels["pixel_values_videos"][0].to(model.dtype), times)
    return memory, prompt


def answers(
    assistant: SlowFast, memory: VideoMemory, prompt: str, questions: list[str]
) -> list[str]:
    """Answer all questions about a clip as one batch on one memory."""
    processor, model = assistant.processor, assistant.model
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": TURN + question}],
            tokenize=False,
            add_generation_prompt=True,
        ).replace(processor.video_token, prompt)
        for question in questions
    ]
    batch = processor.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(
        **batch.to(model.device),
        video_memory=[memory] * len(texts),
        max_new_tokens=96,  # a character is a token in Chinese
        do_sample=False,
    )
    new = output[:, batch.input_ids.shape[1] :]
    return processor.batch_decode(new, skip_special_tokens=True)


def chance(rows: list[tuple[world.QA, str]]) -> float:
    """What always giving the best of the ten most frequent answers, or drawing a choice, scores.

    Of options the one that is right most often elsewhere in ``rows`` is given, by its words.
    """
    if rows[0][0].form == "choice":
        offered = [
            dict(line.split(" ", 1) for line in qa.question.split("\n")[1:]) for qa, _ in rows
        ]
        right = Counter(words[qa.answer] for words, (qa, _) in zip(offered, rows, strict=True))
        guesses = [max(words, key=lambda letter: right[words[letter]]) for words in offered]
        hits = [qa.answer == guess for guess, (qa, _) in zip(guesses, rows, strict=True)]
        return max(sum(hits) / len(rows), sum(1 / len(words) for words in offered) / len(rows))
    frequent = [answer for answer, _ in Counter(qa.answer for qa, _ in rows).most_common(10)]
    always = max(sum(world.score(qa, answer) for qa, _ in rows) for answer in frequent)
    drawn = sum(1 / len(qa.choices) for qa, _ in rows if len(qa.choices) > 1)
    return max(always, drawn) / len(rows)


def median_error(rows: list[tuple[world.QA, str]]) -> float:
    """In seconds, over questions that have a time; an answer without one is off by infinity."""
    timed = [(qa.seconds, world.told_seconds(text)) for qa, text in rows if qa.seconds is not None]
    return float(np.median([np.inf if told is None else abs(told - s) for s, told in timed]))


def main() -> None:
    """Parse the arguments, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint; default: the packaged model")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0, help="no recipe trains below 1000000")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--show-errors", type=int, default=0, help="wrong answers to print a type")
    options = parser.parse_args()
    assistant = load(options.model)
    num_frames = assistant.processor.video_processor.num_frames
    config = assistant.model.config
    asked: dict[tuple[str, str], list[tuple[world.QA, str]]] = defaultdict(list)
    began = time.perf_counter()
    for seed in range(options.first_seed, options.first_seed + options.clips):
        clip = world.sample_clip(seed, num_frames, config.frame_size)
        memory = remember(assistant, clip.frames, clip.timestamps)
        for way in options.ways:
            questions = world.questions(clip.script, seed, clip.timestamps, **WAYS[way])
            if config.object_config is not None:
                questions = [qa for qa in questions if not is_known_now(qa)]
            told = answers(assistant, *memory, [qa.question for qa in questions])
            for qa, text in zip(questions, told, strict=True):
                asked[qa.type, way].append((qa, text))
    each = (time.perf_counter() - began) / options.clips
    print(f"{options.clips} clips from seed {options.first_seed}, {each:.2f} s each\n")
    columns = [f"{way} (chance)" if way == "choice" else way for way in options.ways]
    print("| type | questions | " + " | ".join(columns) + " | chance |")
    print("|---|---|" + "---|" * len(columns) + "---|")
    for kind in world.TYPES:
        rows = [asked[kind, way] for way in options.ways]
        if rows[0]:
            shares = [
                f"{np.mean([world.score(*row) for row in part]):.1%}"
                + (f" ({chance(part):.1%})" if way == "choice" else "")
                for way, part in zip(options.ways, rows, strict=True)
            ]
            print(f"| {kind} | {len(rows[0])} | {' | '.join(shares)} | {chance(rows[0]):.1%} |")
    for kind in ("when", "duration"):
        print(
            f"\nMedian error of {kind!r} in seconds: "
            + ", ".join(
                f"{median_error(asked[kind, way]):.2f} ({way})"
                for way in options.ways
                if way != "choice"
            )
        )
    for rows in asked.values():
        wrong = [(qa, text) for qa, text in rows if not world.score(qa, text)]
        for qa, text in wrong[: options.show_errors]:
            print(f"{qa.type}: {qa.question} expected {qa.answer!r} got {text!r}")


if __name__ == "__main__":
    main()
