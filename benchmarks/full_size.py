"""A full-size checkpoint on this machine: written, loaded by its path, asked once, in one run.

Writes Qwen2-7B with ConvNeXt-XXL in the official layout with random bfloat16 weights (17 GB in
shards, deleted afterwards), loads it as a user would, and asks one question about eight frames on
the CPU; then converts it to each of `--quantize` and does the same with that. Beside the time to
load stands the time to read the same files once, the floor; beside the peak memory, the size of the
files. All start with files that are not in the page cache.

    python benchmarks/full_size.py [--folder /path/with/30/GB] [--layers 28] [--image-size 576]
        [--quantize int4 int8] [--narrow-only]
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
from typing import Any

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
import json, sys, time
began = time.perf_counter()
import slowfast_mllm
from slowfast_mllm.evaluate.memory import peak_memory
imported = time.perf_counter()
model = slowfast_mllm.load(sys.argv[1], device="cpu")
loaded = time.perf_counter()
after_loading = peak_memory()
answer = model.ask(sys.argv[2], "What happens?", num_frames=8, max_new_tokens=TOKENS)
print(json.dumps({"dtype": str(model.model.dtype), "import": imported - began,
    "load": loaded - imported, "loading_peak": after_loading, "peak": peak_memory(),
    **{name: answer.timing[name] for name in ("encode", "prefill", "decode")}}))
"""
CONVERT = """
import json, sys, time
from pathlib import Path
from slowfast_mllm.engine import convert_checkpoint
from slowfast_mllm.evaluate.memory import peak_memory
began = time.perf_counter()
convert_checkpoint(sys.argv[1], Path(sys.argv[2]), quantize=sys.argv[3])
print(json.dumps({"took": time.perf_counter() - began, "peak": peak_memory()}))
"""
TOKENS = 16


def shapes(layers: int) -> dict[str, list[int]]:
    """Names and shapes of the published checkpoint, cut to its first layers."""
    names = json.loads((GOLDEN / "official_7b_manifest.json").read_text())
    return {
        name: shape
        for name, shape in names.items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
    }


def write_checkpoint(folder: Path, layers: int, image_size: int) -> None:
    """Random weights, one shard in memory at a time."""
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


def run(program: str, *arguments: str) -> dict[str, Any]:
    """What a program of its own process prints last."""
    program = program.replace("TOKENS", str(TOKENS))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(kind: str, folder: Path) -> None:
    """Load and ask once; a row for each figure."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    forget(folder)
    floor = read_once(folder)
    forget(folder)
    facts = run(PROGRAM, str(folder), str(ROOT / "examples" / "shapes.mp4"))
    print(f"| {kind} | files, GB | {size / 1e9:.2f} | computed in {facts['dtype']} |")
    print(f"| {kind} | load, s | {facts['load']:.1f} | reading the files once: {floor:.1f} |")
    for what, key in (("after loading", "loading_peak"), ("after the answer", "peak")):
        print(f"| {kind} | peak {what}, GB | {facts[key] / 1e9:.2f} | |")
    for key in ("encode", "prefill"):
        print(f"| {kind} | {key}, s | {facts[key]:.1f} | |")
    # Random weights hardly ever end an answer: all tokens are there.
    print(f"| {kind} | a token, s | {facts['decode'] / (TOKENS - 1):.2f} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where 30 GB are free; default: temporary")
    parser.add_argument("--layers", type=int, default=28, help="fewer for a quick try")
    parser.add_argument("--image-size", type=int, default=576)
    parser.add_argument("--quantize", nargs="*", default=[], choices=["int8", "int4"])
    parser.add_argument("--narrow-only", action="store_true", help="leave out the wide weights")
    arguments = parser.parse_args()
    print("| weights | what | measured | beside |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        wide = Path(name) / "wide"
        wide.mkdir()
        write_checkpoint(wide, arguments.layers, arguments.image_size)
        if not arguments.narrow_only:
            report("bfloat16", wide)
        for kind in arguments.quantize:
            narrow = Path(name) / kind
            forget(wide)
            facts = run(CONVERT, str(wide), str(narrow), kind)
            print(f"| {kind} | convert, s | {facts['took']:.1f} | |")
            print(f"| {kind} | peak of converting, GB | {facts['peak'] / 1e9:.2f} | |", flush=True)
            report(kind, narrow)
            shutil.rmtree(narrow)


if __name__ == "__main__":
    main()
