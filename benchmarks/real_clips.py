"""What the packaged model makes of real footage it never saw: camera, cuts, comings and goings.

The model knows clips of 4 to 12 seconds with up to four cuts, so longer ones are asked window by
window: the camera motion is what most windows say, cuts are added up. Truth is the manifest of the
clips; in all of them something moves, so each is also shown with its first frame frozen. Prints a
Markdown table, a clip a row, and how many questions that the model was never taught it turns away.

    python benchmarks/real_clips.py --videos path/to/folder/with/MANIFEST.json

The manifest: `files`, each with `file`, `duration_s` and `ground_truth` with `camera` (`moves`,
`how`, and where it moves `pan`, `tilt`, `zoom`, `travel`) and `cuts` (`count`, `times_s`).
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from world_accuracy import answers, remember

from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.video import read_video

WINDOW = 10.0
ASKED = {
    "camera": "How does the camera move?",
    "cuts": "How many cuts are there?",
    "when": "When is the cut?",
    "moves": "Does anything move?",
    "enters": "Does something new come into view?",
    "leaves": "Does anything disappear?",
}
# None of them is a wording that training draws.
UNKNOWN = (
    "Who is the person in front?",
    "What is lying on the table?",
    "Why is everybody in a hurry?",
    "Which animal can be heard?",
    "Would my grandmother like it there?",
    "那個人手上拿的是什麼東西？",
    "這家店賣些什麼？",
    "誰會先到終點？",
)
# Of the clips whose manifest tells it: whether something comes into the picture, or goes out.
ENTERS = {"dog_fetch", "cars_overhead", "street_pedestrians", "three_bottles", "highway_dashcam"}
LEAVES = {"dog_fetch", "cars_overhead", "street_pedestrians", "three_bottles", "rollercoaster"}


def windows(
    path: Path, duration: float, num_frames: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Stretches as the world's clips come: start, frames, and timestamps from near 0 on."""
    count = math.ceil(duration / WINDOW - 0.2)
    length = duration / max(count, 1)
    for index in range(max(count, 1)):
        start = index * length
        seen = read_video(path, num_frames=num_frames, start=start, end=start + length)
        yield start, seen.frames, seen.timestamps - start


def camera_is_right(told: str, camera: dict) -> bool:
    """A still camera is still; of a moving one, any motion that the manifest names will do."""
    if not camera["moves"]:
        return told == "still"
    named = {f"pan {word}" for word in ("left", "right") if word in camera.get("pan", "")}
    named |= {f"tilt {word}" for word in ("up", "down") if word in camera.get("tilt", "")}
    named |= {f"zoom {word}" for word in ("in", "out") if word in camera.get("zoom", "").split()}
    named |= {"zoom in"} if camera.get("travel") == "forward" else set()
    return told in named


def look_at(assistant: SlowFast, path: Path, duration: float) -> dict[str, list[str]]:
    """The answers of every window to every question."""
    num_frames = assistant.processor.video_processor.num_frames
    told: dict[str, list[str]] = {name: [] for name in (*ASKED, "unknown", "frozen")}
    for start, frames, times in windows(path, duration, num_frames):
        asked = [*ASKED.values(), *UNKNOWN]
        replies = answers(assistant, *remember(assistant, frames, times), asked)
        for name, reply in zip(ASKED, replies, strict=False):
            told[name].append(reply)
        cut = world.told_seconds(told["when"][-1])
        one = told["cuts"][-1] == "There is 1 cut."
        told["when"][-1] = f"{start + cut:.0f} s" if one and cut is not None else ""
        told["unknown"] += replies[len(ASKED) :]
        if start == 0:
            memory = remember(assistant, np.repeat(frames[:1], num_frames, 0), times)
            told["frozen"] = answers(assistant, *memory, [ASKED["moves"]])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder with a MANIFEST.json")
    parser.add_argument("--model", help="checkpoint; default: the packaged model")
    options = parser.parse_args()
    if not (options.videos / "MANIFEST.json").exists():
        raise SystemExit(f"{options.videos}: no MANIFEST.json in there.")
    manifest = json.loads((options.videos / "MANIFEST.json").read_text())
    assistant = load(options.model)
    say = world.LANGUAGES["en"].say
    motions = {say(("camera", motion)): motion for motion in world.CAMERA_MOTIONS}
    right: Counter[str] = Counter()
    turned_away = asked_away = 0
    print("| clip | camera: said | true | cuts: said | true | moves | frozen | enters | leaves |")
    print("|---|---|---|---|---|---|---|---|---|")
    for entry in manifest["files"]:
        truth, name = entry["ground_truth"], Path(entry["file"]).stem
        told = look_at(assistant, options.videos / entry["file"], entry["duration_s"])
        camera = Counter(motions.get(t, "other") for t in told["camera"]).most_common(1)[0][0]
        cuts = sum(int(next(iter(c for c in t if c.isdigit()), 0)) for t in told["cuts"])
        hits = {
            "camera": camera_is_right(camera, truth["camera"]),
            "camera moves": (camera != "still") == truth["camera"]["moves"],
            "cuts": cuts == truth["cuts"]["count"],
            "moves": "Yes." in told["moves"],
            "frozen": "No." in told["frozen"],
        }
        cells = [f"{camera} {mark(hits['camera'])}", truth["camera"]["how"].split(";")[0]]
        times = ", ".join(t for t in told["when"] if t)
        true_times = ", ".join(f"{t:g}" for t in truth["cuts"]["times_s"])
        cells.append(f"{cuts}{f' ({times})' if times else ''} {mark(hits['cuts'])}")
        cells.append(f"{truth['cuts']['count']}{f' ({true_times} s)' if true_times else ''}")
        for kind in ("moves", "frozen"):
            said = "Yes." in told[kind]
            cells.append(f"{'yes' if said else 'no'} {mark(hits[kind])}")
        for kind, known in (("enters", ENTERS), ("leaves", LEAVES)):
            said = "Yes." in told[kind]
            if name in known:
                hits[kind] = said
            cells.append(("yes" if said else "no") + (f" {mark(said)}" if name in known else ""))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        for kind, hit in hits.items():
            right[kind] += hit
            right[f"{kind} asked"] += 1
        refusals = ("I was not taught to tell that.", "這個我沒有學過。")
        turned_away += sum(reply in refusals for reply in told["unknown"])
        asked_away += len(told["unknown"])
    print(
        "\n"
        + "; ".join(
            f"{kind}: {right[kind]} of {right[f'{kind} asked']}"
            for kind in ("camera", "camera moves", "cuts", "moves", "frozen", "enters", "leaves")
        )
    )
    print(f"\nQuestions it was not taught, turned away: {turned_away} of {asked_away}")


def mark(hit: bool) -> str:
    return "✓" if hit else "✗"


if __name__ == "__main__":
    main()
