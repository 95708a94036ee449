"""An exported model beside its checkpoint on this machine's CPU, in turns within one run.

    slowfast export slowfast-mini exported
    python benchmarks/exported.py slowfast-mini exported

Medians of encoding a clip and of answering a held question about it, in milliseconds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from slowfast_mllm import load

CLIP = str(Path(__file__).parents[1] / "examples" / "shapes.mp4")
QUESTION = "What color is the triangle?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("exported")
    parser.add_argument("--num-frames", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # before loading: onnxruntime takes as many
    models = {"torch": load(options.checkpoint, device="cpu", dtype="float32")}
    models["onnxruntime"] = load(options.exported)
    videos = {n: m.encode(CLIP, num_frames=options.num_frames) for n, m in models.items()}
    taken: dict[str, list[float]] = {}
    answers = {}
    for _ in range(options.rounds):
        for name, model in models.items():
            memory = model.encode(CLIP, num_frames=options.num_frames)
            taken.setdefault(f"{name}_encode_ms", []).append(1000 * memory.timing["encode"])
            began = time.perf_counter()
            answers[name] = model.ask(videos[name], QUESTION).text
            spent = 1000 * (time.perf_counter() - began)
            taken.setdefault(f"{name}_answer_ms", []).append(spent)
    facts = {what: round(statistics.median(times[1:]), 1) for what, times in taken.items()}
    print(json.dumps(facts | {"threads": options.threads, "answers": answers}, indent=2))


if __name__ == "__main__":
    main()
