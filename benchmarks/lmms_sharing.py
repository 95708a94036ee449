"""What it saves that questions of a benchmark about one video share its memory.

Runs in pairs on the same drawn clips and questions: as this library answers requests of lmms-eval
(each video looked at once, questions in the running batch), and as its models usually do (each
request by itself, from the file). The answers are compared, too.

    python benchmarks/lmms_sharing.py --videos 4 --questions 8 --pairs 3
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from slowfast_mllm import SlowFast, load
from slowfast_mllm.evaluate.lmms import Examinee
from slowfast_mllm.evaluate.lmms_requests import chat_talk
from slowfast_mllm.evaluate.scaling import draw_clip

QUESTIONS = (
    "What is shown first?",
    "What color is the shape?",
    "What shape is it?",
    "Is there a person?",
    "Does the camera move?",
    "How many things are there?",
    "Is there a cut?",
    "What happens at the end?",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=None)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=60, help="of each clip")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    assistant = load(options.model)
    with TemporaryDirectory() as folder:
        clips = [
            draw_clip(Path(folder) / f"{n}.mp4", options.seconds + n) for n in range(options.videos)
        ]
        asked = [
            (str(clip), f"{QUESTIONS[n % 8]}{' Really?' * (n // 8)}")
            for n in range(options.questions)
            for clip in clips
        ]
        _ = alone(assistant, asked[:1], options), together(assistant, asked[:1], options)
        pairs = []
        for number in range(options.pairs):
            order = (alone, together) if number % 2 == 0 else (together, alone)
            took, said = {}, {}
            for way in order:
                began = time.perf_counter()
                said[way.__name__] = way(assistant, asked, options)
                took[way.__name__] = time.perf_counter() - began
            same = sum(a == b for a, b in zip(said["alone"], said["together"], strict=True))
            took |= {"times": took["alone"] / took["together"], "same_answers": same}
            pairs.append(took)
            print(json.dumps(took), flush=True)
    print(
        f"{len(asked)} questions about {options.videos} videos: "
        f"{statistics.median(pair['times'] for pair in pairs):.1f} times as fast (median of "
        f"{len(pairs)} pairs), {pairs[0]['same_answers']} answers the same"
    )


def alone(assistant: SlowFast, asked: list, options: argparse.Namespace) -> list[str]:
    how = {"num_frames": options.num_frames, "max_new_tokens": options.max_new_tokens}
    return [assistant.ask(clip, question, **how).text for clip, question in asked]


def together(assistant: SlowFast, asked: list, options: argparse.Namespace) -> list[str]:
    examinee = Examinee(assistant, num_frames=options.num_frames)
    generation = {"max_new_tokens": options.max_new_tokens, "do_sample": False}

    def messages(document: tuple[str, str]) -> list[dict]:
        video, words = (
            {"type": "video", "url": document[0]},
            {"type": "text", "text": document[1]},
        )
        return [{"role": "user", "content": [video, words]}]

    documents = {"task": {"test": asked}}
    requests = [
        SimpleNamespace(args=("", messages, generation, n, "task", "test"))
        for n in range(len(asked))
    ]
    return [said[0] for said in examinee.converse([chat_talk(r, documents) for r in requests])]


if __name__ == "__main__":
    main()
