"""Linear layers of int8 or int4 weights for CPUs: for few rows and for many.

A decode step waits for weights. ONNX Runtime reads them as they are packed: its MatMulNBits keeps a
weight in blocks along the input, each with a scale, and quantizes what comes in to int8 as it
multiplies (accuracy level 4). Each layer is a session of its own, whose threads sleep between
products: torch computes what lies between them on the same cores. A vision tower waits for
products, which torch takes in int8 where the CPU has instructions for it.
"""

import importlib.util
import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 32  # numbers of a weight that share a scale
# A decode step waits for the memory, which a few cores keep busy; each session has its own threads.
_MOST_THREADS = 8
_AT_ONCE = 2**22  # numbers of a weight that are quantized in one go
# Slow keys and values are made once a video, and what memories hold must not depend on how a model
# was loaded.
_SPARED = re.compile(r"cross_attn")


def narrow_linears_installed() -> bool:
    """Whether what `NarrowLinear` needs is there."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def narrow_linears(module: nn.Module, bits: int) -> None:
    """Replace the linear layers in a module by `NarrowLinear`, one by one, in place.

    Raises:
        ValueError: there are none.
    """
    found = [
        name
        for name, layer in module.named_modules()
        if type(layer) is nn.Linear and not _SPARED.search(name)
    ]
    if not found:
        raise ValueError("no linear layers that could be quantized")
    for name in found:
        outer, _, last = name.rpartition(".")
        owner = module.get_submodule(outer)
        setattr(owner, last, NarrowLinear(getattr(owner, last), bits))


class NarrowLinear(nn.Module):
    """A linear layer whose weight is kept in 8 or 4 bits, and a scale for each `BLOCK` of them.

    For inference alone: no gradients, and `state_dict` has its bias only.
    """

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bits = bits
        self.bias = linear.bias
        self._session = _session(linear.weight, bits)

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype that comes in."""
        rows = input.detach().float().reshape(-1, self.in_features).contiguous()
        product = rows.new_empty(len(rows), self.out_features)
        if len(rows):
            binding = self._session.io_binding()
            binding.bind_input("x", "cpu", 0, np.float32, tuple(rows.shape), rows.data_ptr())
            place = product.data_ptr()
            binding.bind_output("y", "cpu", 0, np.float32, tuple(product.shape), place)
            self._session.run_with_iobinding(binding)
        if self.bias is not None:
            product += self.bias
        return product.view(*input.shape[:-1], self.out_features).to(input.dtype)

    @property
    def nbytes(self) -> int:
        """Of the weight and its scales."""
        blocks = self.out_features * -(-self.in_features // BLOCK)
        return blocks * (BLOCK * self.bits // 8 + 4)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}"


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, a scale for each output, and int8 rows, each with its own.

    Sums are exact (int32). For inference alone.
    """

    whole: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp_min(1e-30) / 127
        whole = (weight / scale[:, None]).round_().to(torch.int8)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("whole", whole.T.contiguous(), persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype that comes in."""
        rows = input.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30) / 127
        sums = torch._int_mm((rows / scale).round_().to(torch.int8), self.whole)
        product = sums.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            product += self.bias
        return product.view(*input.shape[:-1], self.out_features).to(input.dtype)


def session_options(threads: int) -> Any:
    """Of an ONNX Runtime session whose threads sleep where they wait.

    Those that wait busily take the cores from torch's, and from all else on the machine.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(weight: Tensor, bits: int) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper

    size, width = weight.shape
    values, scales = _quantized(weight, bits)
    float32 = TensorProto.FLOAT
    tensors = [
        helper.make_tensor("w", TensorProto.UINT8, values.shape, values.tobytes(), raw=True),
        helper.make_tensor("s", float32, scales.shape, scales.tobytes(), raw=True),
    ]
    shape: dict[str, Any] = {
        "K": width,
        "N": size,
        "bits": bits,
        "block_size": BLOCK,
        "accuracy_level": 4,
    }
    domain = "com.microsoft"
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain=domain, **shape)
    inputs = [helper.make_tensor_value_info("x", float32, ["rows", width])]
    outputs = [helper.make_tensor_value_info("y", float32, ["rows", size])]
    graph = helper.make_graph([node], "linear", inputs, outputs, tensors)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    options = session_options(min(torch.get_num_threads(), _MOST_THREADS))
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _quantized(weight: Tensor, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(out, in) -> values (out, blocks, bytes), uint8 around their middle; scales (out * blocks,).

    The largest number of a block is met exactly.
    """
    values, scales = [], []
    middle = 2 ** (bits - 1)
    for part in weight.detach().split(max(1, _AT_ONCE // weight.shape[1])):
        blocks = F.pad(part.float(), (0, -part.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        scale = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)) / -middle
        whole = (blocks / scale.masked_fill(scale == 0, 1)).round_().add_(middle)
        whole = whole.clamp_(0, 2 * middle - 1).to(torch.uint8)
        if bits == 4:  # two in a byte, the first in its lower half
            whole = whole[..., 0::2] | (whole[..., 1::2] << 4)
        values.append(whole)
        scales.append(scale.flatten())
    return torch.cat(values).numpy(), torch.cat(scales).numpy()
