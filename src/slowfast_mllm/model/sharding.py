"""Models whose weights lie on several devices, on the disk, or in several processes.

`device_map` of transformers lays layers on devices and reads those on the disk as they are needed;
its tensor parallelism gives each of several processes some heads of every layer. Both are done to
a model as it is loaded. Here is what memories and digests of weights must know of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import PreTrainedModel

from slowfast_mllm.model.narrow_slow import widened
from slowfast_mllm.model.video_memory import Slow, VideoMemory

_T = TypeVar("_T")


def device_of(module: nn.Module) -> torch.device | None:
    """Where a module computes, wherever its weights lie; None for one without weights."""
    first = next(module.parameters(), None)
    if first is not None and first.device.type != "meta":
        return first.device
    for part in module.modules():  # accelerate brings weights there as they are needed
        place = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if place is not None:
            return torch.device(place)
    return None if first is None else first.device


def is_split(model: nn.Module) -> bool:
    """Whether this process has some heads of each layer only."""
    return (getattr(model, "_tp_size", None) or 1) > 1


def answers_in_turn(model: nn.Module) -> bool:
    """Whether threads must not share a model: its processes do the same in the same order, or its
    weights come from the disk and go again with each use."""
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    return is_split(model) or any(getattr(hook, "offload", False) for hook in hooks)


def from_first(model: nn.Module, value: _T) -> _T:
    """What the first of a model's processes found, in all of them: where each could find another.

    They wait for each other here. Of a model in one process: `value`.
    """
    if not is_split(model):
        return value
    found = [value]
    torch.distributed.broadcast_object_list(found)
    return found[0]


def is_first(model: nn.Module) -> bool:
    """Whether this is the process that writes files and talks to people."""
    return not is_split(model) or torch.distributed.get_rank() == 0


def summed(model: nn.Module, parts: Tensor) -> Tensor:
    """The sum over all heads of what each process summed over its own."""
    if is_split(model):
        torch.distributed.all_reduce(parts)
    return parts


def placed(memory: VideoMemory, model: PreTrainedModel) -> VideoMemory:
    """A memory of all heads, as this process's part of a model reads it: its own heads, of each
    layer where that computes, in the model's dtype."""

    def own(slow: Mapping[int, Slow]) -> dict[int, Slow]:
        found: dict[int, Slow] = {}
        for index, layer in slow.items():
            attention = _cross_attention(model, index)
            weight: Any = next(attention.k_proj.parameters(), None)  # none: an exported model's
            if _is_shared_out(weight):
                mesh = weight.device_mesh
                layer = widened(layer).tensor_split(mesh.size())[mesh.get_local_rank()].clone()
            found[index] = layer.to(device_of(attention), model.dtype)
        return found

    return replace(
        memory,
        fast_tokens=memory.fast_tokens.to(model.device, model.dtype),
        slow_keys=own(memory.slow_keys),
        slow_values=own(memory.slow_values),
    )


def whole(memory: VideoMemory, model: PreTrainedModel) -> VideoMemory:
    """What `placed` takes: the heads of all processes, each of which must ask for it."""

    def joined(slow: Mapping[int, Slow]) -> dict[int, Slow]:
        return {index: _joined(widened(layer), model, index) for index, layer in slow.items()}

    if not is_split(model):
        return memory
    return replace(
        memory, slow_keys=joined(memory.slow_keys), slow_values=joined(memory.slow_values)
    )


def _joined(own: Tensor, model: PreTrainedModel, index: int) -> Tensor:
    weight = _cross_attention(model, index).k_proj.weight
    if not _is_shared_out(weight):
        return own
    parts = [torch.empty_like(own) for _ in range(weight.device_mesh.size())]
    torch.distributed.all_gather(parts, own, group=weight.device_mesh.get_group())
    return torch.cat(parts)


def whole_weight(model: PreTrainedModel, name: str, weight: Any) -> Tensor:
    """The values of a weight of the `state_dict`, of which a part, or nothing, may be here.

    From the other processes, which must ask for it too, or from the disk.
    """
    if _is_shared_out(weight):
        weight = weight.full_tensor()
    elif weight.device.type == "meta":
        from transformers.integrations.accelerate import load_offloaded_parameter

        weight = load_offloaded_parameter(model, name)
    found: Tensor = weight.detach()
    return found


def _cross_attention(model: Any, index: int) -> Any:
    return model.model.language_model.layers[index].self_attn.cross_attn


def _is_shared_out(weight: Any) -> bool:
    return hasattr(weight, "device_mesh")
