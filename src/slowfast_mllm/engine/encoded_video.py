"""A video that was read and encoded, and its file: `.sfmem`, safetensors with facts in the header.

A file is only ever parsed, never executed. It is refused when it is damaged, when another model or
other preprocessing made it, or when the video that it was made from has changed since.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from slowfast_mllm.engine.frame_choice import FrameChoice
from slowfast_mllm.engine.memory_names import SUFFIX, digest, source_digest
from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.model.adapters import adapters_in
from slowfast_mllm.model.cpu_linear import NarrowLinear, sample_of
from slowfast_mllm.model.hardware import int8_is_fast
from slowfast_mllm.model.narrow_slow import NarrowSlow
from slowfast_mllm.model.sharding import is_split, placed, whole_weight
from slowfast_mllm.model.video_memory import Slow
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.video import VideoInfo
from slowfast_mllm.video.fitting import Fit
from slowfast_mllm.video.names import is_utf8, printable, short_name

PARTIAL = ".partial"  # what is still being written, or was when its program was killed
Precision = Literal["exact", "bfloat16", "int8"]
AT_HAND = {"read": 0.0, "preprocess": 0.0, "encode": 0.0}  # timing of what was encoded before
_VERSION = 2
_MANY = 8192  # slow tokens; fewer take little, and are attended quicker as they are
_HEADER = "slowfast_memory"


class MemoryFileError(ValueError):
    """A `.sfmem` file that cannot be used. One line: which one, the cause, and what to do."""


@dataclass(frozen=True)
class EncodedVideo:
    """A video that was read and encoded, ready for any number of questions.

    Attributes:
        memory: what the model keeps of it.
        prompt: the placeholders that stand for it in a prompt.
        fit: how its pictures were brought into the model's size.
        timing: seconds spent on `read`, `preprocess` and `encode`.
        frame_choice: why so many frames were looked at, where that was left to the engine.
    """

    memory: VideoMemory
    prompt: str
    info: VideoInfo
    frame_indices: list[int]
    timestamps: list[float]
    timing: dict[str, float]
    fit: Fit = "crop"
    frame_choice: FrameChoice | None = None


def fingerprint(
    model: SlowFastForConditionalGeneration,
    processor: SlowFastProcessor,
    precision: torch.dtype = torch.bfloat16,
) -> str:
    """What a memory depends on: the config, values of the weights, and the preprocessing.

    In bfloat16 it is the same for a checkpoint that is loaded in bfloat16 or float32, and with
    quantized weights: what is made on a GPU can be asked on a laptop. Evenly spread values of each
    weight are read, not all: training changes them everywhere, and a model of 17 GB must not be
    read twice.
    """
    digest = hashlib.sha256()
    settings = [
        model.config.to_dict(),
        processor.video_processor.to_dict(),
        {**vars(processor.token_layout), "write_timestamps": processor.write_timestamps},
    ]
    digest.update(json.dumps(_essence(settings), sort_keys=True, default=str).encode())
    for name, shape, sample in _samples(model):
        digest.update(f"{name} {shape}".encode())
        values = sample.to("cpu", precision).contiguous()
        digest.update(values.view(torch.uint8).numpy().tobytes())
    for name, adapter in adapters_in(model):
        if not _AFTER_MEMORIES.search(name):
            digest.update(f"{name} {adapter}".encode())
    return digest.hexdigest()


def _samples(model: SlowFastForConditionalGeneration) -> Iterator[tuple[str, Any, Tensor]]:
    """Name, shape and some values of each weight that makes something of a memory; of a head of
    few bits, as it was.
    """
    head = model.lm_head
    for name, weight in model.state_dict().items():
        if _AFTER_MEMORIES.search(name):
            continue
        if not (isinstance(head, NarrowLinear) and name.startswith("lm_head.")):
            yield name, tuple(weight.shape), sample_of(whole_weight(model, name, weight))
        elif name == "lm_head.sample":
            yield "lm_head.weight", (head.out_features, head.in_features), weight


# Where a checkpoint lies, who wrote it, how exactly it computes: its memories are as good. How
# pictures were fitted may differ from question to question; a memory says so itself.
_CHANGES_NOTHING = {"_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype",
                    "quantization_config", "auto_map", "fit", "answer_without_vision"}  # fmt: skip
# Fields that came later, at the values that leave a model as it was: older memories stay good.
_ABSENT = {"object_config": None, "num_objects": 0}
# Weights of the language model's own layers, which may be quantized, make nothing of a memory.
_AFTER_MEMORIES = re.compile(r"language_model\.layers\.\d+\.(self_attn\.(?!cross_attn)|mlp)")


def _essence(settings: Any) -> Any:
    if isinstance(settings, dict):
        absent = (k for k, v in _ABSENT.items() if k in settings and settings[k] == v)
        kept = {k: settings[k] for k in settings.keys() - _CHANGES_NOTHING - set(absent)}
        return {k: _essence(v) for k, v in kept.items()}
    return [_essence(v) for v in settings] if isinstance(settings, list) else settings


def describe_source(path: str | os.PathLike[str]) -> dict[str, Any]:
    """By what a changed source is noticed: `path`, `size` (None for a folder) and `sha256`."""
    return {
        "path": os.path.abspath(path),
        "size": None if os.path.isdir(path) else os.path.getsize(path),
        "sha256": source_digest(path),
    }


def check_target(path: Path) -> None:
    """Whether a `.sfmem` can be written there: to be known before a video is watched.

    Raises:
        ValueError: the name has another suffix, is no UTF-8 or is a folder's, or its folder is not
            there.
    """
    name = short_name(str(path))
    if not is_utf8(str(path)):
        raise ValueError(f"{name}: a name that is not valid UTF-8; choose another.")
    if path.suffix != SUFFIX:
        raise ValueError(f"{name}: a memory's file name ends in {SUFFIX}.")
    if os.path.isdir(path):
        raise ValueError(f"{name}: a folder; give the name of a new file.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"{name}: cannot be written; is {short_name(str(path.parent))} a folder that is yours?"
        )


def save_encoded(
    encoded: EncodedVideo,
    path: Path,
    model: str,
    source: dict[str, Any] | None,
    precision: Precision = "bfloat16",
) -> None:
    """Write a `.sfmem`; it appears under its name only when it is whole.

    Args:
        model: fingerprint of the model that made it.
        source: `describe_source` of the video, or None where there is no file to compare with.
        precision: as it is, bfloat16, or int8 with a scale per token and head for slow keys and
            values and bfloat16 for the rest. What a memory holds in int8 stays so.

    Raises:
        OSError: it cannot be written.
    """
    tensors = _tensors(encoded.memory, precision)
    facts = {
        "version": _VERSION,
        "model": model,
        "source": source,
        "kind": encoded.memory.kind,
        "prompt": encoded.prompt,
        "info": encoded.info.to_dict(),
        "fit": encoded.fit,
        "frame_indices": encoded.frame_indices,
        "timestamps": encoded.timestamps,
    }
    text = json.dumps(facts)  # in ASCII: a path may be no UTF-8
    header = {_HEADER: text, "sha256": _content_digest(text, tensors)}
    partial = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # safetensors writes a file that is the owner's alone
        save_file(tensors, partial, header)
        partial.chmod(mode)
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(
            f"{short_name(str(path))}: cannot be written ({short_name(str(error))}); is there room?"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def load_encoded(path: Path, model: str, like: SlowFastForConditionalGeneration) -> EncodedVideo:
    """Read a `.sfmem` for a model.

    Args:
        model: fingerprint of `like`.
        like: gives device and dtype.

    Raises:
        MemoryFileError: the file is missing, damaged, made by another model, or out of date.
    """
    facts, tensors = _read(path)
    try:
        if facts["model"] != model:
            raise _refused(
                path,
                "made by another model or with other preprocessing; index the video again "
                "with this one, or ask with --model set to the one that made it.",
            )
        _check_source(path, facts["source"])
        if not isinstance(facts["prompt"], str):
            raise TypeError("a prompt that is no text")
        memory = _memory(tensors, facts["timestamps"], facts["kind"], like)
        return EncodedVideo(
            memory=memory,
            prompt=facts["prompt"],
            info=VideoInfo.from_dict(facts["info"]),
            frame_indices=facts["frame_indices"],
            timestamps=facts["timestamps"],
            timing=AT_HAND,
            fit=facts.get("fit", "crop"),
        )
    except MemoryFileError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise _other_writer(path) from error


def describe_memory(path: Path) -> dict[str, Any]:
    """Facts about a `.sfmem`, whichever model made it.

    Raises:
        MemoryFileError: the file is missing, damaged, or no video memory.
    """
    facts, tensors = _read(path)
    try:
        kinds = [tensor.dtype for tensor in tensors.values()]
        return {
            "memory": printable(str(path)),
            "source": facts["source"] and printable(facts["source"]["path"]),
            "duration": facts["info"]["duration"],
            "frames": len(facts["timestamps"]),
            "fit": facts.get("fit", "crop"),
            "precision": "int8" if torch.int8 in kinds else str(kinds[0]).removeprefix("torch."),
            "model_fingerprint": facts["model"],
            "megabytes": path.stat().st_size / 1e6,
        }
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise _other_writer(path) from error


def _refused(path: Path, cause: str) -> MemoryFileError:
    return MemoryFileError(f"{short_name(str(path))}: {cause}")


def _other_writer(path: Path) -> MemoryFileError:
    return _refused(path, "not as this program writes it; index the video again.")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors, after the digest of both and the format are checked."""
    if os.path.exists(path) and not path.is_file():
        raise _refused(path, "not a regular file.")
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise _refused(path, "no such file; make it with `slowfast index`.") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise _refused(
            path, f"damaged or no video memory ({short_name(str(error))}); index the video again."
        ) from error
    text = header.get(_HEADER)
    if text is None:
        raise _refused(path, "a safetensors file, but no video memory of this program.")
    if header.get("sha256") != _content_digest(text, tensors):
        raise _refused(path, "changed since it was written; index the video again.")
    try:
        facts = json.loads(text)
        version = facts["version"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise _other_writer(path) from error
    if version != _VERSION:
        raise _refused(
            path, f"format {version}, this program reads {_VERSION}; index the video again."
        )
    return facts, tensors


def _check_source(path: Path, source: dict[str, Any] | None) -> None:
    """A source that is gone is fine: that is what the file is for."""
    if source is None:
        return
    try:
        changed = (
            source["size"] not in (None, os.path.getsize(source["path"]))
            or source_digest(source["path"]) != source["sha256"]
        )
    except (OSError, ValueError):
        return
    if changed:
        raise _refused(path, f"{source['path']} has changed since it was indexed; index it again.")


def _tensors(memory: VideoMemory, precision: Precision) -> dict[str, Tensor]:
    tensors = {"fast_tokens": memory.fast_tokens}
    for name, slow in (("slow_keys", memory.slow_keys), ("slow_values", memory.slow_values)):
        for layer, values in slow.items():
            if precision == "int8" and not isinstance(values, NarrowSlow):
                values = NarrowSlow.of(values)
            if isinstance(values, NarrowSlow):
                tensors[f"{name}.{layer}.scale"] = values.scale.bfloat16()
                values = values.whole
            tensors[f"{name}.{layer}"] = values
    if precision != "exact":
        tensors = {
            name: tensor if tensor.dtype == torch.int8 else tensor.to(torch.bfloat16)
            for name, tensor in tensors.items()
        }
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _memory(
    tensors: dict[str, Tensor],
    timestamps: list[float],
    kind: Literal["video", "image"],
    like: SlowFastForConditionalGeneration,
) -> VideoMemory:
    def slow(name: str, layer: int) -> Slow:
        values = tensors[f"{name}.{layer}"]
        if values.dtype != torch.int8:
            return values
        scale = tensors[f"{name}.{layer}.scale"]
        if scale.shape != (*values.shape[:-1], 1):
            raise KeyError("scales of another shape")
        return NarrowSlow(values, scale.float())

    layers = like.config.hybrid_layers
    memory = VideoMemory(
        fast_tokens=tensors["fast_tokens"],
        slow_keys={layer: slow("slow_keys", layer) for layer in layers},
        slow_values={layer: slow("slow_values", layer) for layer in layers},
        timestamps=torch.tensor(timestamps, dtype=torch.float32),
        kind=kind,
    )
    _check_shapes(memory, like)
    if memory.narrow:
        memory = memory.narrowed() if reads_narrow(memory, like) else memory.widened()
    return placed(memory, like)


def reads_narrow(memory: VideoMemory, model: SlowFastForConditionalGeneration) -> bool:
    """Whether a model reads slow tokens in int8 as they are: many, on a CPU that is fast at it."""
    return (
        memory.num_slow_tokens >= _MANY
        and model.device.type == "cpu"
        and model.model.reads_narrow
        and not is_split(model)
        and int8_is_fast()
    )


def _check_shapes(memory: VideoMemory, like: SlowFastForConditionalGeneration) -> None:
    """A digest can be computed anew; what does not fit the model must not reach a batch."""
    tokens = set()
    for side in (memory.slow_keys, memory.slow_values):
        for layer, slow in side.items():
            attention = like.model.language_model.layers[layer].self_attn.cross_attn
            if (slow.shape[0], slow.shape[-1]) != (attention.num_kv_heads, attention.head_dim):
                raise KeyError("slow tokens of another shape")
            tokens.add(slow.shape[1:-1])
    if len(tokens) > 1 or memory.fast_tokens.shape[1:] != (like.config.text_config.hidden_size,):
        raise KeyError("tokens of another shape")


def _content_digest(text: str, tensors: dict[str, Tensor]) -> str:
    def parts() -> Iterable[bytes | memoryview]:
        yield text.encode()
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
            yield tensor.flatten().view(torch.uint8).numpy().data

    return digest(parts())
