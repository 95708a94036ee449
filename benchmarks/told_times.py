"""What telling the times of frames in words does to answers, to questions about times and others.

On clips of the procedural world, seeds that no training draws; each question is asked with and
without the words, about the same memory. Beside accuracies: how often the words change an answer.

    python benchmarks/told_times.py --clips 40
"""

import argparse
from collections import Counter

from evidence import encoded

from slowfast_mini import world
from slowfast_mini.things import is_known_now
from slowfast_mllm import load

TIMED = ("when", "duration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the packaged one")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--others", type=int, default=2, help="other questions about each clip")
    parser.add_argument("--seed", type=int, default=900_000)
    arguments = parser.parse_args()
    assistant = load(arguments.model, device="cpu")
    told: dict[str, Counter[str]] = {kind: Counter() for kind in (*TIMED, "others")}
    for seed in range(arguments.seed, arguments.seed + arguments.clips):
        clip = world.sample_clip(seed, size=assistant.model.config.frame_size)
        video = encoded(assistant, clip)
        questions = [qa for qa in clip.questions if not is_known_now(qa)]
        others = [qa for qa in questions if qa.type not in TIMED][: arguments.others]
        for qa in [*(qa for qa in questions if qa.type in TIMED), *others]:
            count = told[qa.type if qa.type in TIMED else "others"]
            plain, timed = (
                assistant.ask(video, qa.question, max_new_tokens=48, times=times).text
                for times in (False, True)
            )
            count["asked"] += 1
            count["without"] += world.score(qa, plain)
            count["with"] += world.score(qa, timed)
            count["changed"] += plain != timed
    for kind, count in told.items():
        if count["asked"]:
            share = {name: f"{count[name] / count['asked']:.1%}" for name in count}
            print(
                f"{kind}: {count['asked']} questions, right without {share['without']}, with times "
                f"{share['with']}; {share.get('changed', '0.0%')} of the answers are others"
            )


if __name__ == "__main__":
    main()
