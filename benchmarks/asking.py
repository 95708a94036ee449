"""What asking again and asking together save, with the packaged model, in one run.

First and second question: seconds to the first token of a question about a clip that was never seen
(reading, preprocessing, encoding, prefill), and of one whose memory is on disk.
Together: questions per second about clips that are encoded already, one after the other (the
baseline) and in batches.

    python benchmarks/asking.py [VIDEO] [--questions 48] [--repeats 5]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import MemoryCache, Request

EXAMPLE = Path(__file__).parents[1] / "examples" / "shapes.mp4"
QUESTION = "How does the camera move?"
QUESTIONS = (QUESTION, "What happens in the video?", "How many objects appear?", "Is there a fade?")


def to_first_token(assistant: SlowFast, video: Path) -> tuple[float, str]:
    answer = assistant.ask(video, QUESTION)
    parts = ("read", "preprocess", "encode", "prefill")
    return sum(answer.timing[part] for part in parts), answer.text


def asking_again(video: Path, repeats: int) -> None:
    firsts, seconds = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            assistant = load(cache=MemoryCache(Path(folder)))
            assistant.fingerprint  # noqa: B018 - part of loading, not of asking
            first, words = to_first_token(assistant, video)
            second, again = to_first_token(assistant, video)
            assert words == again
            firsts.append(first)
            seconds.append(second)
    first, second = statistics.median(firsts), statistics.median(seconds)
    print(f"Asking {video.name} again ({repeats} times, medians; the answers are the same)\n")
    print("| question | to first token | speed-up |")
    print("|---|---|---|")
    print(f"| first | {first * 1e3:.0f} ms | 1 |")
    print(f"| second | {second * 1e3:.0f} ms | {first / second:.1f} |\n")


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
    parser.add_argument("video", type=Path, nargs="?", default=EXAMPLE)
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    asking_again(arguments.video, arguments.repeats)
    asking_together(arguments.video, arguments.questions, arguments.repeats)


if __name__ == "__main__":
    main()
