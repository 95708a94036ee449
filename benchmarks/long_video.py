"""Peak memory of encoding 1,536 frames, by the length and size of the clip, in one run.

Makes clips (a drifting pattern, H.264), encodes each with the packaged model in a process of its
own, and prints the peak resident memory beside that of a process that only loads the model. It
should follow the number of frames looked at, and neither the clip's length nor its size.

    python benchmarks/long_video.py [--frames 64 1536] [--quick]
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLIPS = (
    ("10 min 360p", 600, 640, 360),
    ("1 h 360p", 3600, 640, 360),
    ("10 min 1080p", 600, 1920, 1080),
)
QUICK_CLIPS = (("1 min 180p", 60, 320, 180), ("2 min 180p", 120, 320, 180))
RATE = 3
PROGRAM = """
import resource, sys
from slowfast_mllm import load
model = load()
if len(sys.argv) > 1:
    encoded = model.encode(sys.argv[1], num_frames=int(sys.argv[2]))
    print(encoded.memory.nbytes, end=" ")
else:
    print(0, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def make_clip(path: Path, seconds: int, width: int, height: int) -> None:
    """A pattern that drifts two pixels a frame."""
    rows, columns = np.mgrid[:height, : 2 * width]
    pattern = np.stack([columns, rows, rows + columns], -1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(seconds * RATE):
            first = 2 * number % width
            picture = np.ascontiguousarray(pattern[:, first : first + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


def peak(*arguments: str) -> tuple[int, int]:
    """Bytes of the memory that was made, and of the process at its largest."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    ).stdout
    kept, most = out.split()
    return int(kept), int(most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 1536])
    parser.add_argument("--quick", action="store_true", help="small clips")
    arguments = parser.parse_args()
    _, loaded = peak()
    print(f"A process that only loads the model: {loaded / 1e6:.0f} MB\n")
    print("| clip | frames | memory kept, MB | peak, MB | over loading, KB a frame |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds, width, height in QUICK_CLIPS if arguments.quick else CLIPS:
            path = Path(folder) / "clip.mp4"
            make_clip(path, seconds, width, height)
            for frames in arguments.frames:
                kept, most = peak(str(path), str(frames))
                each = (most - loaded) / frames / 1e3
                print(
                    f"| {name} | {frames} | {kept / 1e6:.1f} | {most / 1e6:.0f} | {each:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
