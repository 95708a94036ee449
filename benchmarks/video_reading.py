"""How fast frames are read from clips of many kinds, next to other readers, in one run.

Makes its own clips (moving pattern and noise), reads each with every method, checks that ours is
bit-equal to a plain sequential decode, and prints two tables: frames at their own size, and frames
as a vision tower of 576 px wants them. The yardstick is what `ffmpeg -f null` needs to decode
everything; where no ffmpeg is installed, it is PyAV's sequential decode. Times are the best of
several runs, CPU times (of all threads, and of the ffmpeg program) those of the same run; compare
ratios, not milliseconds, and where other work runs beside, CPU ratios.
Readers that are not installed are left out: `pip install torchcodec==0.13 decord`.
Under "equal", "other" stands for other pixels or other frames than asked for: transformers has its
own choice of frames.

    python benchmarks/video_reading.py [--quick] [--frames 64 128] [--repeats 3] [--clips FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.processing import SlowFastVideoProcessor
from slowfast_mllm.video import read_video, uniform_indices

Frames = NDArray[np.uint8]
Method = Callable[[Path, int], Frames | None]
SIDE = 576
LONG = 8.0  # seconds after which no further run is begun
LIBRARIES = ("torchcodec", "decord")


# As real footage gets from x264: three in four are B frames (74, 73 and 74 % of three clips). In a
# pattern that drifts evenly it sees scene cuts, and half as many B frames pay.
_AS_FOOTAGE = (("b_strategy", "0"), ("sc_threshold", "0"))
_H264 = (("g", "250"), *_AS_FOOTAGE)
# At 25 frames a second, keyframes as often as those clips have them: every 5 s.
_H264_5_S = (("g", "125"), *_AS_FOOTAGE)
_HEVC = (("preset", "veryfast"), ("x265-params", "open-gop=1:keyint=250:log-level=none"))
_VP9 = (("deadline", "realtime"), ("cpu-used", "8"), ("g", "128"), ("b", "3M"))
_AV1 = (("preset", "11"), ("g", "250"))


@dataclass(frozen=True)
class Clip:
    """A clip to make.

    Attributes:
        codec: an encoder of FFmpeg, and its options.
        part: so many seconds are encoded and then repeated.
    """

    name: str
    width: int
    height: int
    seconds: int
    rate: int
    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = _H264
    part: int = 20

    @property
    def file(self) -> str:
        return f"{self.codec}-{self.height}p-{self.seconds}s.mp4"


CLIPS = (
    Clip("1080p30 H.264, 40 s, GOP 250", 1920, 1080, 40, 30),
    Clip("720p30 HEVC, 40 s, open GOP", 1280, 720, 40, 30, "libx265", _HEVC),
    Clip("720p30 VP9, 40 s", 1280, 720, 40, 30, "libvpx-vp9", _VP9),
    Clip("720p30 AV1, 40 s", 1280, 720, 40, 30, "libsvtav1", _AV1, part=40),
    Clip("360p25 H.264, 10 min, GOP 125", 640, 360, 600, 25, options=_H264_5_S),
    Clip("360p2 H.264, 1 h, GOP 250", 640, 360, 3600, 2, part=120),
)
QUICK_CLIPS = (
    Clip("360p30 H.264, 10 s", 640, 360, 10, 30, part=10),
    Clip("180p25 H.264, 60 s", 320, 180, 60, 25),
    Clip("180p25 HEVC, 10 s, open GOP", 320, 180, 10, 25, "libx265", _HEVC, part=10),
)


def make_clip(clip: Clip, path: Path) -> None:
    """`clip`: its first seconds encoded, and their packets again and again."""
    partial = path.with_name(f"partial-{path.name}")
    with av.open(str(partial), "w") as container:
        encode_part(clip, container)
    if clip.part == clip.seconds:
        partial.replace(path)
        return
    part = clip.part * clip.rate
    with av.open(str(partial)) as source, av.open(str(path), "w") as container:
        taken = source.streams.video[0]
        stream = container.add_stream_from_template(taken)
        packets = [packet for packet in source.demux(taken) if packet.dts is not None]
        length = round(part / clip.rate / taken.time_base)
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        for number in range(clip.seconds // clip.part):
            for content, pts, dts, is_keyframe in data:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, taken.time_base
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    partial.unlink()


def encode_part(clip: Clip, container: Any) -> None:
    """A drifting colour pattern with a bright block that runs, under noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: clip.height, : clip.width]
    pattern = np.stack([columns % 256, rows % 256, (rows + columns) % 256], axis=-1)
    noise = rng.normal(0, 3.0, (8, clip.height, clip.width, 1))
    layers = np.clip(pattern * 0.6 + 40 + noise, 0, 255).astype(np.uint8)
    side = clip.height // 8
    stream = container.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
    stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
    for number in range(clip.part * clip.rate):
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


def read_with_torchcodec(path: Path, count: int) -> Frames:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
    wanted = uniform_indices(len(decoder), count).tolist()
    return decoder.get_frames_at(wanted).data.numpy()


def read_with_decord(path: Path, count: int) -> Frames:
    import decord

    reader = decord.VideoReader(str(path), num_threads=2)
    return reader.get_batch(uniform_indices(len(reader), count)).asnumpy()


def read_ours_resized(path: Path, count: int) -> Frames:
    """576 px, as the published models' video processor makes them."""
    processor = SlowFastVideoProcessor(size={"height": SIDE, "width": SIDE})
    return read_video(path, num_frames=count, transform=processor.frame_transform()).frames


def then_resize(method: Method) -> Method:
    """What is read, and each frame resized with PIL."""

    def read(path: Path, count: int) -> Frames:
        frames = method(path, count)
        assert frames is not None
        size, kernel = (SIDE, SIDE), Image.Resampling.BICUBIC
        return np.stack([np.asarray(Image.fromarray(f).resize(size, kernel)) for f in frames])

    return read


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


def best_timing(method: Method, path: Path, count: int, repeats: int) -> Timing | None:
    """The fastest of several runs, of one where that takes long; None where the reader fails."""
    runs: list[Timing] = []
    while len(runs) < repeats and sum(run.wall for run in runs) < LONG:
        wall, before = time.perf_counter(), os.times()
        try:
            frames = method(path, count)
        except Exception as error:  # other libraries' errors are of all kinds
            if method in (read_ours, read_ours_resized):
                raise
            print(f"{path.name}: {str(error).splitlines()[0]}", file=sys.stderr)
            return None
        wall, after = time.perf_counter() - wall, os.times()
        runs.append(Timing(wall, sum(after[:4]) - sum(before[:4]), frames))
    return min(runs, key=lambda run: run.wall)


def module_of(name: str) -> str:
    return name.replace(",", " ").split()[0]


def installed(methods: dict[str, Method]) -> dict[str, Method]:
    """Without those whose library is missing: the first word of a name is its module."""
    return {
        name: method
        for name, method in methods.items()
        if module_of(name) not in LIBRARIES or importlib.util.find_spec(module_of(name))
    }


def measure(clip: Clip, path: Path, count: int, repeats: int) -> list[str]:
    """The table rows of one clip: at its own size, then resized."""
    yardstick = "ffmpeg -f null" if shutil.which("ffmpeg") else "PyAV sequential"
    whole: dict[str, Method] = {
        "PyAV sequential": read_sequentially,
        "ours": read_ours,
        "transformers, pyav": read_with_transformers,
        "torchcodec": read_with_torchcodec,
        "decord": read_with_decord,
    }
    resized: dict[str, Method] = {
        "ours to 576 px": read_ours_resized,
        "torchcodec, PIL to 576 px": then_resize(read_with_torchcodec),
    }
    methods = installed(whole | resized)
    if yardstick not in methods:
        methods = {yardstick: decode_with_ffmpeg} | methods
    timings = {name: best_timing(run, path, count, repeats) for name, run in methods.items()}
    base = timings[yardstick]
    assert base is not None
    expected = timings["PyAV sequential"]
    rows = []
    for name, timing in timings.items():
        if timing is None:
            rows.append(f"| {clip.name} | {count} | {name} | failed | | | |")
            continue
        equal = "-"
        if timing.frames is not None and name not in resized and expected is not None:
            equal = "yes" if np.array_equal(timing.frames, expected.frames) else "other"
        if name == "ours" and equal != "yes":
            raise SystemExit(f"{clip.name}: our frames differ from the sequential decode")
        rows.append(
            f"| {clip.name} | {count} | {name} | {timing.wall * 1000:.0f} | "
            f"{timing.wall / base.wall:.2f} | {timing.cpu / base.cpu:.2f} | {equal} |"
        )
    return rows


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small clips, for trying it out")
    parser.add_argument("--frames", type=int, nargs="+", default=[64], help="frames a clip")
    parser.add_argument("--repeats", type=int, default=3, help="runs; the fastest counts")
    parser.add_argument("--clips", type=Path, help="keep the clips here; default: temporary")
    arguments = parser.parse_args()
    yardstick = "ffmpeg -f null" if shutil.which("ffmpeg") else "PyAV sequential (no ffmpeg here)"
    print(f"Best of up to {arguments.repeats} runs; ratios to {yardstick}\n")
    print("| clip | frames | method | ms | ratio | CPU ratio | equal |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.clips or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for clip in QUICK_CLIPS if arguments.quick else CLIPS:
            path = folder / clip.file
            if not path.exists():
                make_clip(clip, path)
            for count in arguments.frames:
                for row in measure(clip, path, count, arguments.repeats):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
