"""How long a search takes beside watching what is searched, on a folder of drawn clips.

In CPU time of all threads. Also how well it ranks: of each of ten shapes, how many of the first
hits truly show it.

    python benchmarks/searching.py --clips 1000 [--folder FOLDER] [--model NAME]

A folder of an earlier run is searched without drawing or watching anything anew.
"""

import argparse
import tempfile
import time
from pathlib import Path

from slowfast_mini import world
from slowfast_mllm import load
from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks import search_folder

_ASKED = [
    *(("red", "circle"), ("blue", "square"), ("green", "star"), ("yellow", "triangle")),
    *(("white", "heart"), ("orange", "moon"), ("black", "ring"), ("purple", "cross")),
    *(("red", "heart"), ("blue", "circle")),
]
_FIRST = 500_000


def shown(script: world.Script) -> set[tuple[str, str]]:
    pairs = {(thing.color, thing.shape) for thing in script.objects}
    pairs |= {(t.change.color, t.shape) for t in script.objects if t.change}
    return pairs | ({(script.needle.color, script.needle.shape)} if script.needle else set())


def main(assistant: Assistant, folder: Path, clips: int) -> None:
    truth = {}
    for seed in range(_FIRST, _FIRST + clips):
        script = world.sample_script(seed)
        truth[f"{seed}.mp4"] = shown(script)
        if not (path := folder / f"{seed}.mp4").exists():
            world.write_video(script, path)
    began = time.process_time()
    search_folder(assistant, folder, "a pink dog")
    first = time.process_time() - began
    print(f"{clips} clips watched and searched: {first:.1f} s of CPU time")
    for color, shape in _ASKED:
        words = f"{'an' if color[0] in 'aeiou' else 'a'} {color} {shape}"
        began = time.process_time()
        found = search_folder(assistant, folder, words, top=clips)
        seconds = time.process_time() - began
        true = {name for name, pairs in truth.items() if (color, shape) in pairs}
        right = sum(hit.path in true for hit in found.hits)
        print(
            f"{words}: {seconds:.1f} s (1/{first / seconds:.0f} of watching), {len(found.hits)} "
            f"found, {right} of them rightly, of {len(true)} that show it"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        kept = arguments.folder or Path(place)
        kept.mkdir(parents=True, exist_ok=True)
        main(load(arguments.model), kept, arguments.clips)
