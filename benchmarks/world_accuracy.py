"""Accuracy of a model on unseen clips of the procedural world, per question type, beside chance.

Chance is what the most frequent answer of each type would score on the same questions; for "order"
and "presence", whose answers differ from question to question, one over the number of choices if
that is more. Prints a Markdown table.

    python benchmarks/world_accuracy.py --clips 300
"""

import argparse
import time
from collections import Counter, defaultdict

import torch

from slowfast_mllm import SlowFast, load, world

TURN = "<video>\n"


def answers(assistant: SlowFast, clip: world.Clip) -> list[str]:
    """Answer all questions of a clip as one batch on one memory."""
    processor, model = assistant.processor, assistant.model
    times = torch.from_numpy(clip.timestamps)
    pixels = processor.video_processor(clip.frames, do_sample_frames=False)
    prompt = processor.replace_video_token({**pixels, "video_timestamps": times[None]}, video_idx=0)
    with torch.no_grad():  # an array has no times of its own: give it the clip's
        memory = model.encode_video(pixels["pixel_values_videos"][0].to(model.dtype), times)
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": TURN + qa.question}],
            tokenize=False,
            add_generation_prompt=True,
        ).replace(processor.video_token, prompt)
        for qa in clip.questions
    ]
    batch = processor.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(
        **batch.to(model.device),
        video_memory=[memory] * len(texts),
        max_new_tokens=64,
        do_sample=False,
    )
    new = output[:, batch.input_ids.shape[1] :]
    return processor.batch_decode(new, skip_special_tokens=True)


def main() -> None:
    """Parse the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint; default: the packaged model")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0, help="no recipe trains below 1000000")
    parser.add_argument("--show-errors", type=int, default=0, help="wrong answers to print a type")
    options = parser.parse_args()
    assistant = load(options.model)
    num_frames = assistant.processor.video_processor.num_frames
    right: Counter[str] = Counter()
    given: dict[str, Counter[str]] = defaultdict(Counter)
    guess: dict[str, float] = defaultdict(float)
    shown: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(options.first_seed, options.first_seed + options.clips):
        clip = world.sample_clip(seed, num_frames, assistant.model.config.vision_config.image_size)
        for qa, text in zip(clip.questions, answers(assistant, clip), strict=True):
            hit = world.score(qa, text)
            right[qa.type] += hit
            given[qa.type][qa.answer] += 1
            guess[qa.type] += 1 / len(qa.choices) if len(qa.choices) > 1 else 0
            if not hit and shown[qa.type] < options.show_errors:
                shown[qa.type] += 1
                print(f"{qa.type}: {qa.question} expected {qa.answer!r} got {text!r}")
    each = (time.perf_counter() - began) / options.clips
    print(f"{options.clips} clips from seed {options.first_seed}, {each:.2f} s each\n")
    print("| type | questions | accuracy | chance |\n|---|---|---|---|")
    for kind in world.TYPES:
        count = given[kind].total()
        if not count:
            continue
        chance = max(given[kind].most_common(1)[0][1], guess[kind]) / count
        print(f"| {kind} | {count} | {right[kind] / count:.1%} | {chance:.1%} |")


if __name__ == "__main__":
    main()
