"""How fast 64 frames are read from a clip, next to three other ways, in one run.

Makes its own clips (moving pattern and noise, H.264), reads each with every method, checks that
ours is bit-equal to a plain sequential decode, and prints one table. The yardstick is what
`ffmpeg -f null` needs to decode everything; where no ffmpeg is installed, it is PyAV's
sequential decode. Times are the best of several runs, CPU times (of all threads, and of the
ffmpeg program) those of the same run; compare ratios, not milliseconds, and where other work
runs beside, CPU ratios.
Under "equal", "other" stands for other frames than asked for: transformers has its own choice.

    python benchmarks/video_reading.py [--quick] [--frames 64] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.video import read_video, uniform_indices

Frames = NDArray[np.uint8]
Method = Callable[[Path, int], Frames | None]


@dataclass(frozen=True)
class Clip:
    """A clip to make: `noise` is the standard deviation in grey levels."""

    name: str
    width: int
    height: int
    seconds: int
    rate: int
    noise: float


CLIPS = (
    Clip("1080p30, 60 s, GOP 250", 1920, 1080, 60, 30, 3.0),
    Clip("360p25, 10 min, GOP 250", 640, 360, 600, 25, 3.0),
)
QUICK_CLIPS = (
    Clip("360p30, 10 s, GOP 250", 640, 360, 10, 30, 6.0),
    Clip("180p25, 60 s, GOP 250", 320, 180, 60, 25, 3.0),
)


def make_clip(clip: Clip, path: Path) -> None:
    """Encode `clip`: a drifting colour pattern with a bright block that runs, under noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: clip.height, : clip.width]
    pattern = np.stack([columns % 256, rows % 256, (rows + columns) % 256], axis=-1)
    noise = rng.normal(0, clip.noise, (8, clip.height, clip.width, 1))
    layers = np.clip(pattern * 0.6 + 40 + noise, 0, 255).astype(np.uint8)
    side = clip.height // 8
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=clip.rate)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.options = {"preset": "veryfast", "g": "250"}
        for number in range(clip.seconds * clip.rate):
            picture = np.roll(layers[number % 8], 2 * number, axis=1)
            left = 7 * number % (clip.width - side)
            picture[side : 2 * side, left : left + side] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def read_ours(path: Path, count: int) -> Frames:
    """This project's reader."""
    return read_video(path, num_frames=count).frames


def read_sequentially(path: Path, count: int) -> Frames:
    """PyAV from the first frame to the last wanted one, with frame threads."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = set(uniform_indices(stream.frames, count).tolist())
        kept = [
            frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(container.decode(stream))
            if number in wanted
        ]
    return np.stack(kept)


def read_with_transformers(path: Path, count: int) -> Frames:
    """The PyAV reader of transformers."""
    from transformers.video_utils import load_video

    frames: Any = load_video(str(path), num_frames=count, backend="pyav")[0]
    return np.asarray(frames)


def decode_with_ffmpeg(path: Path, count: int) -> None:
    """Everything decoded by the ffmpeg program, nothing kept (`count` has no effect)."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@dataclass(frozen=True)
class Timing:
    """What one method needed: seconds by the clock and of all CPUs, and the frames it gave."""

    wall: float
    cpu: float
    frames: Frames | None


def best_timing(method: Method, path: Path, count: int, repeats: int) -> Timing:
    """The fastest of several runs."""
    runs = []
    for _ in range(repeats):
        wall, before = time.perf_counter(), os.times()
        frames = method(path, count)
        wall, after = time.perf_counter() - wall, os.times()
        runs.append(Timing(wall, sum(after[:4]) - sum(before[:4]), frames))
    return min(runs, key=lambda run: run.wall)


def measure(clip: Clip, folder: Path, count: int, repeats: int) -> list[str]:
    """The table rows of one clip."""
    path = folder / "clip.mp4"
    make_clip(clip, path)
    methods: dict[str, Method] = {
        "PyAV sequential": read_sequentially,
        "ours": read_ours,
        "transformers, pyav": read_with_transformers,
    }
    yardstick = "PyAV sequential"
    if shutil.which("ffmpeg"):
        yardstick = "ffmpeg -f null"
        methods = {yardstick: decode_with_ffmpeg} | methods
    timings = {name: best_timing(run, path, count, repeats) for name, run in methods.items()}
    expected, base = timings["PyAV sequential"].frames, timings[yardstick]
    rows = []
    for name, timing in timings.items():
        same = timing.frames is not None and np.array_equal(timing.frames, expected)
        equal = "-" if timing.frames is None else "yes" if same else "other"
        if name == "ours" and not same:
            raise SystemExit(f"{clip.name}: our frames differ from the sequential decode")
        rows.append(
            f"{clip.name:26}{name:20}{timing.wall * 1000:>8.0f}{timing.wall / base.wall:>7.2f}"
            f"{timing.cpu * 1000:>8.0f}{timing.cpu / base.cpu:>7.2f}{equal:>7}"
        )
    path.unlink()
    return rows


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small clips, for trying it out")
    parser.add_argument("--frames", type=int, default=64, help="frames read from each clip")
    parser.add_argument("--repeats", type=int, default=3, help="runs; the fastest counts")
    arguments = parser.parse_args()
    yardstick = "ffmpeg -f null" if shutil.which("ffmpeg") else "PyAV sequential (no ffmpeg here)"
    print(f"{arguments.frames} frames a clip, best of {arguments.repeats}; ratio to {yardstick}")
    titles = f"{'ms':>8}{'ratio':>7}{'cpu ms':>8}{'ratio':>7}{'equal':>7}"
    print(f"{'clip':26}{'method':20}{titles}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for clip in QUICK_CLIPS if arguments.quick else CLIPS:
            for row in measure(clip, Path(folder), arguments.frames, arguments.repeats):
                print(row, flush=True)


if __name__ == "__main__":
    main()
