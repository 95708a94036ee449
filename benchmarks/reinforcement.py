"""Whether a short run of GRPO moves the packaged model's reward on clips it never saw, in one run.

Writes clips of the procedural world, reinforces the right answers to one type of question on some,
and asks about the others before (the baseline) and after: greedy accuracy, and the mean reward of
sampled answers. Two arms, with and without the temporal contrast, several seeds each. `--before`
only measures the baseline, to find a type of question with room above it.

    python benchmarks/reinforcement.py --type camera --choice --held-out 150
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers.utils import logging

from slowfast_mini import world
from slowfast_mllm import load
from slowfast_mllm.engine import Request
from slowfast_mllm.train.fine_tune import fine_tune
from slowfast_mllm.train.recipe import FineTuneRecipe, FineTuneStage, Source, Start
from slowfast_mllm.train.rewards import accuracy

PACKAGED = Path(__file__).parents[1] / "src" / "slowfast_mini" / "weights"
FRAMES, BATCH = 32, 4
FIRST_HELD_OUT = 5000  # world seeds; no recipe trains below 1,000,000
FIRST_TRAINED = 500_000


def records(kind: str, choice: bool, first: int, count: int, folder: Path) -> Iterator[dict]:
    """The first `count` clips from world seed `first` on that have such a question.

    `choice`: with answers to choose from by letter.
    """
    while count:
        script = world.sample_script(first)
        times = world.frame_times(script.duration, FRAMES)
        every = world.questions(script, first, times, multiple_choice=float(choice))
        asked = next((qa for qa in every if qa.type == kind), None)
        if asked is not None:
            clip = folder / f"{first}.mp4"
            world.write_video(script, clip, fps=12, size=96)
            turns = [
                {"from": "human", "value": f"<video>\n{asked.question}"},
                {"from": "gpt", "value": asked.answer},
            ]
            yield {"video": str(clip), "conversations": turns}
            count -= 1
        first += 1


def rewards(model: Path, rows: list[dict]) -> tuple[float, float]:
    """Mean accuracy of greedy answers, and of sampled ones."""
    assistant = load(model)
    seen = [assistant.encode(row["video"]) for row in rows]

    def mean(samples: int, **options: float) -> float:
        requests = [
            Request(video, row["conversations"][0]["value"].removeprefix("<video>\n"),
                    options={"max_new_tokens": 12, **options, "seed": number})
            for number in range(samples)
            for video, row in zip(seen, rows, strict=True)
        ]  # fmt: skip
        expected = [row["conversations"][1]["value"] for row in rows] * samples
        texts = [str(answer) for answer in assistant.generate(requests, max_batch=16)]
        return sum(map(accuracy, texts, expected)) / len(texts)

    return mean(1), mean(2, temperature=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--type", default="camera", choices=world.TYPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--contrasts", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--held-out", type=int, default=150)
    parser.add_argument("--choice", action="store_true", help="answers by letter")
    parser.add_argument("--before", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = (arguments.type, arguments.choice)
        held_out = list(records(*asked, FIRST_HELD_OUT, arguments.held_out, folder))
        greedy, sampled = rewards(PACKAGED, held_out)
        print(f"{arguments.type}: {len(held_out)} held-out clips, {arguments.steps} steps\n")
        print("| arm | seed | greedy accuracy | reward of samples |")
        print("|---|---|---|---|")
        print(f"| before | | {greedy:.3f} | {sampled:.3f} |", flush=True)
        if arguments.before:
            return
        train = list(records(*asked, FIRST_TRAINED, arguments.steps * BATCH, folder))
        path = folder / "records.json"
        path.write_text(json.dumps(train))
        for contrast in arguments.contrasts:
            for seed in arguments.seeds:
                stage = FineTuneStage(
                    "reinforce",
                    [Source(str(path))],
                    ["slow", "language_model"],
                    arguments.learning_rate,
                    method="grpo",
                    temporal_contrast=contrast,
                    batch_size=BATCH,
                    beta=0.02,
                    max_new_tokens=12,
                    gradient_checkpointing=False,
                )
                start = Start(checkpoint=str(PACKAGED))
                plan = FineTuneRecipe(
                    "reinforce", seed, start, [stage], num_frames=FRAMES, bf16=False
                )
                with contextlib.redirect_stdout(sys.stderr):  # the trainer's own lines
                    model = fine_tune(plan, folder / f"{contrast}-{seed}", save_steps=10**6)
                greedy, sampled = rewards(model, held_out)
                arm = f"GRPO, contrast {contrast}" if contrast else "GRPO"
                print(f"| {arm} | {seed} | {greedy:.3f} | {sampled:.3f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
