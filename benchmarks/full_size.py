"""A full-size checkpoint on this machine: written, loaded by its path, asked once, in one run.

Writes Qwen2-7B with ConvNeXt-XXL in the official layout with random bfloat16 weights (17 GB in
shards, deleted afterwards), loads it as a user would, and asks one question about four frames on
the CPU. Beside the time to load stands the time to read the same files once, the floor; beside the
peak memory, the size of the weights. Both start with files that are not in the page cache.

    python benchmarks/full_size.py [--folder /path/with/20/GB] [--layers 28] [--image-size 576]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "model" / "golden"
TOKENIZER = ROOT / "src" / "slowfast_mini" / "weights"
FULL_SIZE = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "mm_hidden_size": 3072,
    "cross_attn_every_n_layers": 8,
    "cross_attn_max_layer_depth": 28,
    "torch_dtype": "bfloat16",
}
PROGRAM = """
import json, resource, sys, time
began = time.perf_counter()
import slowfast_mllm
imported = time.perf_counter()
model = slowfast_mllm.load(sys.argv[1])
loaded = time.perf_counter()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
after_loading = peak()
answer = model.ask(sys.argv[2], "What happens?", num_frames=4, max_new_tokens=4)
print(json.dumps({"dtype": str(model.model.dtype), "import": imported - began,
    "load": loaded - imported, "loading_peak": after_loading, "peak": peak(),
    **{name: answer.timing[name] for name in ("encode", "prefill", "decode")}}))
"""


def shapes(layers: int) -> dict[str, list[int]]:
    """Names and shapes of the published checkpoint, cut to its first layers."""
    names = json.loads((GOLDEN / "official_7b_manifest.json").read_text())
    return {
        name: shape
        for name, shape in names.items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
    }


def write_checkpoint(folder: Path, layers: int, image_size: int) -> int:
    """Random weights, one shard in memory at a time; returns their bytes."""
    config = json.loads((GOLDEN / "s1t4" / "config.json").read_text())
    config |= FULL_SIZE
    config["num_hidden_layers"] = layers
    config["mm_vision_tower"] = f"convnext-{image_size}"
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (TOKENIZER / name).exists():
            shutil.copy(TOKENIZER / name, folder)
    empty = {
        name: torch.empty(shape, dtype=torch.bfloat16, device="meta")
        for name, shape in shapes(layers).items()
    }
    split = split_torch_state_dict_into_shards(empty, max_shard_size="2GB")
    for file, names in split.filename_to_tensors.items():
        weights = {n: torch.randn(empty[n].shape, dtype=torch.bfloat16) * 0.02 for n in names}
        save_file(weights, folder / file, {"format": "pt"})
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(weight.nbytes for weight in empty.values())


def forget(folder: Path) -> None:
    """Write the files out and drop them from the page cache."""
    os.sync()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_once(folder: Path) -> float:
    """Seconds to read all shards in large pieces."""
    began = time.perf_counter()
    buffer = bytearray(16 << 20)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where 20 GB are free; default: temporary")
    parser.add_argument("--layers", type=int, default=28, help="fewer for a quick try")
    parser.add_argument("--image-size", type=int, default=576)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        size = write_checkpoint(folder, arguments.layers, arguments.image_size)
        forget(folder)
        floor = read_once(folder)
        forget(folder)
        clip = ROOT / "examples" / "shapes.mp4"
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), str(clip)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    facts = json.loads(run.stdout.splitlines()[-1])
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    print(f"{size / 1e9:.2f} GB of bfloat16 weights, computed in {facts['dtype']}\n")
    print("| what | measured | beside | ratio |")
    print("|---|---|---|---|")
    print(
        f"| load | {facts['load']:.1f} s | {floor:.1f} s to read the files | "
        f"{facts['load'] / floor:.2f} |"
    )
    for what, key in (("peak after loading", "loading_peak"), ("peak after the answer", "peak")):
        ratio = facts[key] / size
        print(f"| {what} | {facts[key] / 1e9:.2f} GB | the weights | {ratio:.2f} |")
    print(
        f"| peak after the answer | {facts['peak'] / 1e9:.2f} GB | {limit / 1e9:.1f} GB here | "
        f"{facts['peak'] / limit:.2f} |"
    )
    for key in ("encode", "prefill", "decode"):
        print(f"| {key} | {facts[key]:.1f} s | | |")


if __name__ == "__main__":
    main()
