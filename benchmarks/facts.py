"""Cuts and camera movement of clips as they are measured, beside what is true.

A camera is right where exactly the movements that the truth names were found, whatever their order
("zoom in" also where the camera travels forward), and none, not even a camera in hands, where it
stands still. A cut is right within a tenth of a second; dissolves and fades are shown, not counted.
What is true of real clips is in `real_clips_truth.json`; thresholds were chosen on the sixteen of
`videos`, the others were never looked at. Drawn clips tell it themselves. Prints Markdown tables.

    python benchmarks/facts.py --videos FOLDER [FOLDER ...] [--scenedetect]
    python benchmarks/facts.py --world 60

`--scenedetect` runs PySceneDetect beside (`pip install scenedetect opencv-python`).
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from slowfast_mini import world
from slowfast_mllm.tasks import measure_facts
from slowfast_mllm.tasks.facts import Facts

_TRUTH = json.loads(Path(__file__).with_name("real_clips_truth.json").read_text())["clips"]
_CLOSE = 0.1  # seconds
_SIZE, _FPS = 160, 20.0


def movements(facts: Facts) -> set[str]:
    """Of all shots, in the words of the truth, with "hand-held" and "unknown"."""
    found = set()
    for shot in facts.shots:
        for move in shot.camera or ():
            words = {"travel forward": "zoom in", "travel backward": "zoom out"}
            said = move.kind if move.direction is None else f"{move.kind} {move.direction}"
            found.add(words.get(said, said).replace("counter-clockwise", "counterclockwise"))
        if shot.camera is None:
            found.add("unknown")
    return found


def camera_is_right(found: set[str], named: set[str], moves: bool) -> bool:
    directed = found - {"hand-held", "unknown"}
    return directed == named and bool(found - {"unknown"}) == moves


def hits(found: list[float], true: list[float]) -> int:
    """How many of the true cuts were found."""
    return sum(any(abs(cut - at) <= _CLOSE for cut in found) for at in true)


def scene_detect(path: Path) -> dict[str, list[float]]:
    """Cuts that PySceneDetect finds with its two usual detectors, as they come."""
    from scenedetect import AdaptiveDetector, ContentDetector, detect

    kinds = {"adaptive": AdaptiveDetector, "content": ContentDetector}
    return {
        name: [start.seconds for start, _ in detect(str(path), kind())[1:]]
        for name, kind in kinds.items()
    }


def real_clips(folders: list[Path], beside: bool) -> None:
    right, totals, took, length = 0, {"here": [0, 0, 0]}, 0.0, 0.0
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.name in _TRUTH]
    print("| clip | camera found | camera true | | cuts found, true | other changes |")
    print("|---|---|---|---|---|---|")
    for file in files:
        truth = _TRUTH[file.name]
        began = time.perf_counter()
        facts = measure_facts(file)
        took, length = took + time.perf_counter() - began, length + facts.video.duration
        found, named = movements(facts), set(truth["camera"]["kinds"])
        good = camera_is_right(found, named, truth["camera"]["moves"])
        right += good
        all_cuts = {"here": [cut.time for cut in facts.cuts or () if cut.kind == "cut"]}
        all_cuts |= scene_detect(file) if beside else {}
        for name, cuts in all_cuts.items():
            known = hits(cuts, truth["cuts"])
            added = (known, len(truth["cuts"]) - known, len(cuts) - known)
            totals[name] = [a + b for a, b in zip(totals.get(name, [0, 0, 0]), added, strict=True)]
        gradual = [
            f"{c.kind} {c.start:.2f}-{c.end:.2f}" for c in facts.cuts or () if c.kind != "cut"
        ]
        shown = {name: [round(cut, 2) for cut in cuts] for name, cuts in all_cuts.items()}
        said = (
            "; ".join(f"{name} {cuts}" for name, cuts in shown.items()) if beside else shown["here"]
        )
        print(
            f"| {file.name} | {', '.join(sorted(found)) or 'still'} | "
            f"{', '.join(sorted(named)) or ('moves' if truth['camera']['moves'] else 'still')} | "
            f"{'right' if good else 'WRONG'} | {said}, {truth['cuts']} | {', '.join(gradual)} |",
            flush=True,
        )
    print(f"\ncamera right on {right} of {len(files)} clips")
    for name, (known, missed, false) in totals.items():
        print(f"cuts, {name}: {known} found, {missed} missed, {false} false")
    print(f"{took:.0f} s for {length:.0f} s of video")


def drawn_clips(count: int) -> None:
    wrong: list[Any] = []
    for seed in range(count):
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, int(script.duration * _FPS))
        frames = world.render(script, times, _SIZE)
        facts = measure_facts(frames, frames_fps=len(times) / script.duration)
        motion = script.camera.motion
        found = movements(facts) - {"hand-held", "unknown"}
        if found != ({motion} - {"still"}):
            wrong.append((seed, motion, round(script.camera.speed, 3), sorted(found)))
    print(f"camera right on {count - len(wrong)} of {count} drawn clips")
    for seed, motion, speed, found in wrong:
        print(f"  clip {seed}: {motion} ({speed}), found {', '.join(found) or 'nothing'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--scenedetect", action="store_true")
    parser.add_argument("--world", type=int, default=0, metavar="CLIPS")
    args = parser.parse_args()
    if args.videos:
        real_clips(args.videos, args.scenedetect)
    if args.world:
        drawn_clips(args.world)


if __name__ == "__main__":
    main()
