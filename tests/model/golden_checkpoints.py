"""Where the golden data is, and complete official checkpoint folders made of its reduced copy."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

REDUCED = Path(__file__).parent / "golden"
FULL = Path(__file__).resolve().parents[3] / "shared" / "golden"
VISUAL = ("model.vision_tower.", "model.mm_projector.")


def official_weights(source: Path = REDUCED, kind: str = "s1t4") -> dict[str, Tensor]:
    """Official name -> tensor; what the reduced copy leaves out is borrowed from `s1t4`."""
    own = source / kind / "model.safetensors"
    weights = load_file(own if own.exists() else source / "s1t4" / "model.safetensors")
    if not any(name.startswith(VISUAL) for name in weights):
        other = load_file(source / "s1t4" / "model.safetensors")
        weights |= {name: w for name, w in other.items() if name.startswith(VISUAL)}
    return weights


def complete_folder(source: Path, kind: str, folder: Path) -> Path:
    """Write a whole official checkpoint to `folder`."""
    shutil.copy(source / kind / "config.json", folder)
    save_file(official_weights(source, kind), folder / "model.safetensors", {"format": "pt"})
    return folder


def sharded_folder(folder: Path, dtype: torch.dtype, num_shards: int = 3) -> Path:
    """`s1t4` as published checkpoints are stored: half precision, several files and an index."""
    config = json.loads((REDUCED / "s1t4" / "config.json").read_text())
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: w.to(dtype) for name, w in official_weights().items()}
    names, index = sorted(weights), {}
    for k in range(num_shards):
        file = f"model-{k + 1:05}-of-{num_shards:05}.safetensors"
        shard = {name: weights[name] for name in names[k::num_shards]}
        save_file(shard, folder / file, {"format": "pt"})
        index |= dict.fromkeys(shard, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder
