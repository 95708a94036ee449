"""Cuts and camera movement of clips as they are measured, beside what is true.

A camera is right where exactly the movements that the truth names were found, whatever their order
("zoom in" also where the camera travels forward), and none, not even a camera in hands, where it
stands still. That the picture does not tell (unknown) counts as neither right nor wrong. A cut is
right within a tenth of a second; dissolves and fades are shown, not counted.
What is true of real clips is in `real_clips_truth.json`; thresholds were chosen on the sixteen of
`videos`, and on drawn clips 0 to 23; all others were kept back. Prints Markdown tables.

    python benchmarks/facts.py --videos FOLDER [FOLDER ...] [--scenedetect]
    python benchmarks/facts.py --world 24

`--scenedetect` runs PySceneDetect beside (`pip install scenedetect opencv-python`).
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from slowfast_mini import world
from slowfast_mllm.tasks import measure_facts
from slowfast_mllm.tasks.facts import Facts

_TRUTH = json.loads(Path(__file__).with_name("real_clips_truth.json").read_text())["clips"]
_CLOSE = 0.1  # seconds
_SIZE, _FPS = 160, 20.0
_FIRST_DRAWN = 1000  # thresholds were tried on some below


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


def judged(found: set[str], named: set[str], moves: bool) -> str:
    """ "right", "wrong", or "not told" where the picture of a shot did not tell."""
    if found - {"hand-held", "unknown"} == named and bool(found - {"unknown"}) == moves:
        return "not told" if "unknown" in found else "right"
    return "not told" if found == {"unknown"} else "wrong"


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
    verdicts: Counter[str] = Counter()
    totals, took, length = {"here": [0, 0, 0]}, 0.0, 0.0
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.name in _TRUTH]
    print("| clip | camera found | camera true | | cuts found, true | other changes |")
    print("|---|---|---|---|---|---|")
    for file in files:
        truth = _TRUTH[file.name]
        began = time.perf_counter()
        facts = measure_facts(file)
        took, length = took + time.perf_counter() - began, length + facts.video.duration
        found, named = movements(facts), set(truth["camera"]["kinds"])
        verdict = judged(found, named, truth["camera"]["moves"])
        verdicts[verdict] += 1
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
            f"{verdict} | {said}, {truth['cuts']} | {', '.join(gradual)} |",
            flush=True,
        )
    print(f"\ncamera on {len(files)} clips: {dict(verdicts)}")
    for name, (known, missed, false) in totals.items():
        print(f"cuts, {name}: {known} found, {missed} missed, {false} false")
    print(f"{took:.0f} s for {length:.0f} s of video")


def drawn_clips(count: int) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(_FIRST_DRAWN, _FIRST_DRAWN + count):
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, int(script.duration * _FPS))
        frames = world.render(script, times, _SIZE)
        facts = measure_facts(frames, frames_fps=len(times) / script.duration)
        camera = script.camera
        named = {camera.motion} - {"still"}
        found = movements(facts)
        # Drawn cameras shake, too: only what goes in one direction is in the script's name.
        verdict = judged(found - {"hand-held"}, named, bool(named))
        verdicts[verdict] += 1
        if verdict != "right":
            said = ", ".join(sorted(found)) or "still"
            print(f"clip {seed}: {verdict}: {camera.motion} ({camera.speed:.3f}), found {said}")
    print(f"camera on {count} drawn clips: {dict(verdicts)}")


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
