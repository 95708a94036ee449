"""Runs the CPU benchmarks one after the other and writes docs/benchmarks.md.

Under 15 minutes on two cores with AVX512-bf16, about 20 on two without. `--full` adds the full-size
checkpoint: 17 GB of disk, four minutes.

    python benchmarks/report.py [--full] [--output docs/benchmarks.md]
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import torch
import transformers

ROOT = Path(__file__).parents[1]
# Title, program and arguments, what a reader should know.
PARTS = (
    (
        "Reading clips",
        "benchmarks/video_reading.py --repeats 1",
        "The ratio is to decoding everything with `ffmpeg -f null`, that of CPU counts the time "
        'of all threads. "equal": bit-equal to decoding in sequence; "other": other pixels, or '
        'other frames than asked for; "-": not compared.',
    ),
    (
        "Asking again, asking together",
        "benchmarks/asking.py --repeats 2",
        "The packaged model, and one of random weights where the figures depend on size alone. "
        "A memory on disk saves reading and encoding; of one that is held, and was asked about "
        "before, only the question is read.",
    ),
    (
        "Decoding",
        "benchmarks/decoding.py --steps 6 --prefills 2",
        "Time per token beside the language model alone; at 1,536 frames reading the slow keys and "
        "values adds 19 % to the bytes of the weights, and at prefill the attention of 100 text "
        "tokens to 124,416 slow tokens 12 % to the operations.",
    ),
    (
        "Decoding, compiled",
        "benchmarks/decoding.py --compile --frames 64 --steps 8 --prefills 1",
        "The same with `--compile`: static cache, one graph per step.",
    ),
    (
        "Vision tower",
        "benchmarks/vision_tower.py --towers packaged --compile",
        "Share of the rate of a large matrix product, measured in the same run.",
    ),
    (
        "Vision tower, published size",
        "benchmarks/vision_tower.py --towers published --repeats 1",
        "ConvNeXt-XXL at 576 px, one frame.",
    ),
    (
        "Quantized weights",
        "benchmarks/quantized.py --clips 3",
        "Against float32. Models of random weights have nearly equal logits everywhere: look at "
        "the error there, and at the tokens of the packaged model. Golden is the tiny model of the "
        "tests in the official layout, too small for nf4.",
    ),
    (
        "Memory by length of the clip",
        "benchmarks/long_video.py --frames 1536",
        "Peak resident memory of encoding 1,536 frames with the packaged model.",
    ),
)
FULL = (
    "A full-size checkpoint",
    "benchmarks/full_size.py",
    "Qwen2-7B with ConvNeXt-XXL, random bfloat16 weights in the official layout, one question "
    "about four frames. Weights are mapped and read when they are first used: loading alone takes "
    "less than reading the files once, and the first answer pays.",
)


def hardware() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    has = getattr(torch.cpu, "get_capabilities", dict)()
    extras = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if has.get(name)]
    return f"{os.cpu_count()} cores of {cpu} ({', '.join(extras)}), {memory:.0f} GiB of memory"


def run(command: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{command} failed")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also the full-size checkpoint")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    ffmpeg = "no ffmpeg program"
    if shutil.which("ffmpeg"):
        version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout
        ffmpeg = " ".join(version.split()[:3])
    text = [
        "# Benchmarks",
        "",
        f"{datetime.date.today()}, {hardware()}; Python {platform.python_version()}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, PyAV {av.__version__}, "
        f"{ffmpeg}. Written by `make bench`. Compare ratios: all figures of a table come from one "
        "run, the machine of another day is faster or slower.",
    ]
    began = time.perf_counter()
    for title, command, remark in [*PARTS, *([FULL] if arguments.full else [])]:
        print(f"{title} ...", end=" ", flush=True)
        start = time.perf_counter()
        table = run(command)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        text += ["", f"## {title}", "", f"`python {command}`", "", remark, "", table]
    arguments.output.write_text("\n".join(text) + "\n")
    print(f"{arguments.output}: {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
