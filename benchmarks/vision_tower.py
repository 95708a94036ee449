"""Time per frame in the vision tower against what its FLOPs would take at the machine's own rate.

The rate is that of large matrix products in the same dtype, measured in the same run just before
each tower; bfloat16 is left out where the CPU has no instructions for it. "Share" is FLOPs / rate /
time: 1 would be a tower as fast as a single matrix product. Random weights, best of several runs.
The baseline of the ratio is float32, not compiled. With `--clips`, also how near slow tokens of
real frames come in int8 to those in float32, with the packaged model's tower and projector, which
were trained.

    python benchmarks/vision_tower.py [--towers packaged published] [--compile] [--repeats 3]
        [--clips FOLDER]
"""

import argparse
import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from decoding import timed
from torch.utils.flop_counter import FlopCounterMode
from transformers.initialization import no_init_weights

from slowfast_mllm import load
from slowfast_mllm.model import SlowFastConvNextModel, SlowFastVisionConfig
from slowfast_mllm.model.convnext import narrow_mlps
from slowfast_mllm.model.hardware import bfloat16_is_fast

# Name: config and frames at a time.
TOWERS = {
    "packaged": (
        SlowFastVisionConfig(
            image_size=96, num_channels=5, depths=[1, 2, 4], hidden_sizes=[48, 96, 192]
        ),
        32,
    ),
    "published": (SlowFastVisionConfig(), 1),
}


def best(work: Callable[[], object], repeats: int) -> float:
    work()
    return min(timed(work) for _ in range(repeats))


def matmul_rate(dtype: torch.dtype, repeats: int) -> float:
    """FLOP/s of (2048, 2048) @ (2048, 2048)."""
    left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    return 2 * 2048**3 / best(lambda: left @ right, repeats + 2)


def random_tower(config: SlowFastVisionConfig) -> SlowFastConvNextModel:
    with no_init_weights():
        tower = SlowFastConvNextModel(config)
    with torch.no_grad():
        for weight in tower.parameters():
            if weight.ndim > 1:
                weight.uniform_(-1, 1).mul_((3 / weight[0].numel()) ** 0.5)
            else:
                weight.fill_(0.1)
    return tower.eval()


@torch.no_grad()
def measure(name: str, compiled: bool, repeats: int) -> None:
    config, num_frames = TOWERS[name]
    tower = random_tower(config)
    frames = torch.rand(num_frames, config.num_channels, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter:
        tower(frames)
    flops = counter.get_total_flops() / num_frames
    base = None
    with torch.inference_mode():
        expected = tower(frames).last_hidden_state.flatten()
    hows = (False, True) if compiled else (False,)
    rates: dict[torch.dtype, float] = {}
    dtypes = ("float32", "bfloat16") if bfloat16_is_fast("cpu") else ("float32",)
    for dtype_name, compile_it in itertools.product(dtypes, hows):
        dtype = getattr(torch, dtype_name)
        network = tower.to(dtype)
        run = torch.compile(network) if compile_it else network
        pixels = frames.to(dtype)
        rate = rates[dtype] = max(rates.get(dtype, 0), matmul_rate(dtype, repeats))
        took = best(lambda run=run, pixels=pixels: run(pixels), repeats) / num_frames
        base = base or took
        how = f"{dtype_name}, compiled" if compile_it else dtype_name
        print(
            f"| {name} | {how} | {flops / 1e9:.2f} | "
            f"{took * 1e3:.2f} | {rate / 1e9:.0f} | {flops / rate / took:.2f} | "
            f"{base / took:.2f} | {alike(network, pixels, expected):.5f} |",
            flush=True,
        )
        torch.compiler.reset()
    network = tower.float()
    narrow_mlps(network)
    took = best(lambda: network(frames), repeats) / num_frames
    print(
        f"| {name} | float32, MLPs in int8 | {flops / 1e9:.2f} | {took * 1e3:.2f} | – | – | "
        f"{base / took:.2f} | {alike(network, frames, expected):.5f} |",
        flush=True,
    )


def alike(tower: torch.nn.Module, pixels: torch.Tensor, expected: torch.Tensor) -> float:
    """Cosine of its map with that in float32."""
    found = tower(pixels).last_hidden_state.float().flatten()
    return float(torch.cosine_similarity(found, expected, dim=0))


@torch.no_grad()
def real_frames(folder: Path) -> None:
    """Cosines of slow tokens of the tower in int8 and in float32, of each clip."""
    assistant: Any = load(device="cpu", dtype="float32")
    wide = assistant.model.model
    narrow = copy.deepcopy(wide)
    narrow_mlps(narrow.vision_tower)
    print("\n| clip | frames | slow tokens | mean cosine | lowest |\n|---|---|---|---|---|")
    found = []
    for clip in sorted(p for p in folder.iterdir() if p.suffix in (".mp4", ".webm", ".mkv")):
        pictures = assistant.pictures(clip, wide.config.frame_size, num_frames=16)
        pixels = assistant.processor.video_processor.normalise(pictures)
        times = torch.arange(len(pixels)).float()
        slow = [model.visual_tokens([pixels], times)[1] for model in (wide, narrow)]
        # The last of each frame are things that another tower found.
        slow = [
            x.unflatten(0, (len(pixels), -1))[:, : -wide.config.object_config.num_objects]
            for x in slow
        ]
        found.append(torch.cosine_similarity(*slow, dim=-1).flatten())
        low, mean = float(found[-1].min()), float(found[-1].mean())
        print(f"| {clip.name} | {len(pixels)} | {len(found[-1])} | {mean:.5f} | {low:.5f} |")
    cosines = torch.cat(found)
    low, mean = float(cosines.min()), float(cosines.mean())
    print(f"| all | | {len(cosines)} | {mean:.5f} | {low:.5f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--towers", nargs="+", default=list(TOWERS), choices=list(TOWERS))
    parser.add_argument("--compile", action="store_true", help="also compiled towers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    arguments = parser.parse_args()
    print(
        "| tower | how | GFLOP a frame | ms a frame | matmul GFLOP/s | share | speed-up | cosine |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.towers:
        measure(name, arguments.compile, arguments.repeats)
    if arguments.clips is not None:
        real_frames(arguments.clips)


if __name__ == "__main__":
    main()
