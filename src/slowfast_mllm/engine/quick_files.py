"""What a quick answer reads from disk, as arrays and without torch: weights and `.sfmem` files."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.engine.memory_names import digest, source_digest

Floats = NDArray[np.float32]
_KINDS = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "BF16": np.uint16}
_NAMES = {"F32": "float32", "F16": "float16", "I8": "int8", "BF16": "bfloat16"}  # torch's
_LONGEST_HEADER = 100 << 20  # bytes, as safetensors has it


class Safetensors:
    """A safetensors file, mapped: what is not asked for is not read.

    Raises:
        ValueError: it is none, or holds another kind of number.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError("no safetensors file")
            header = json.loads(file.read(length))
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self._places = header
        self._bytes = np.memmap(path, np.uint8, "r", offset=8 + length)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def raw(self, name: str) -> NDArray[Any]:
        """As it is stored; bfloat16 as uint16."""
        place = self._places[name]
        first, last = place["data_offsets"]
        return self._bytes[first:last].view(_KINDS[place["dtype"]]).reshape(place["shape"])

    def floats(self, name: str) -> Floats:
        """A tensor as float32, times its scales where it has some."""
        found = self.raw(name)
        if self._places[name]["dtype"] == "BF16":
            return (found.astype(np.uint32) << 16).view(np.float32)
        if self._places[name]["dtype"] == "I8":
            return found.astype(np.float32) * self.floats(f"{name}.scale")
        return np.ascontiguousarray(found, np.float32)

    def content_digest(self, text: str) -> str:
        """What `encoded_video` writes beside a memory: of its facts and all tensors."""

        def parts() -> Iterator[bytes | memoryview]:
            yield text.encode()
            for name in sorted(self._places):
                kind, shape = _NAMES[self._places[name]["dtype"]], self._places[name]["shape"]
                yield f"{name} {tuple(shape)} torch.{kind}".encode()
                yield self.raw(name).reshape(-1).view(np.uint8).data

        return digest(parts())


def read_memory(path: Path, model: str) -> tuple[dict[str, Any], Safetensors]:
    """The facts and tensors of a `.sfmem` of a model's fingerprint.

    Raises:
        ValueError, OSError, KeyError, TypeError: it cannot be used; `load_encoded` says why.
    """
    tensors = Safetensors(path)
    text = tensors.metadata["slowfast_memory"]
    if tensors.metadata["sha256"] != tensors.content_digest(text):
        raise ValueError("changed")
    facts: dict[str, Any] = json.loads(text)
    if facts["version"] != 2 or facts["model"] != model:
        raise ValueError("of another version or model")
    source = facts["source"]
    is_there = source is not None and os.path.exists(source["path"])
    if is_there and source_digest(source["path"]) != source["sha256"]:
        raise ValueError("its video has changed")
    return facts, tensors
