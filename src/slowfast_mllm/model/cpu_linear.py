"""Linear layers of int8 or int4 weights for CPUs: for few rows and for many.

A decode step waits for weights. ONNX Runtime reads them as they are packed: its MatMulNBits keeps a
weight in blocks along the input, each with a scale, and quantizes what comes in to int8 as it
multiplies (accuracy level 4). Each layer is a session of its own, whose threads sleep between
products: torch computes what lies between them on the same cores. A vision tower waits for
products, which torch takes in int8 where the CPU has instructions for it.
"""

import ctypes
import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DOMAIN = "com.microsoft"
# Numbers of a weight that share a scale: the more, the less there is to read and to multiply. The
# packaged model's perplexity is 0.8 % higher with 4 bits in blocks of 128, 0.1 % in blocks of 32.
BLOCKS = (128, 64, 32)
# A decode step waits for the memory, which a few cores keep busy; each session has its own threads.
_MOST_THREADS = 8
_SAMPLE = 64  # values
_IN_CACHE = 2**19  # numbers of a weight
_ROWS = 1024
_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE_PIECE = 2**24  # bytes; given back to the system as soon as it is freed
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


def block_of(width: int) -> int:
    """How many numbers of a row of so many share a scale: the most that leave none over."""
    return next((size for size in BLOCKS if width % size == 0), BLOCKS[-1])


def sample_of(weight: Tensor) -> Tensor:
    """About `_SAMPLE` evenly spread values of a weight, or all of a smaller one."""
    values = weight.detach().flatten()
    return values[:: max(1, values.numel() // _SAMPLE)].clone()


def make_ready(module: nn.Module) -> None:
    """Build what multiplies in each `NarrowLinear`, and give back the memory that took."""
    layers = [layer for layer in module.modules() if isinstance(layer, NarrowLinear)]
    if not layers:
        return
    with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_THREADS)) as pool:
        for _ in pool.map(NarrowLinear.make_ready, layers):
            pass
    libc: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(libc, "malloc_trim"):  # glibc, which would keep what is freed for other pieces
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_PIECE)
        libc.malloc_trim(0)


class NarrowLinear(nn.Module):
    """A linear layer whose weight is kept in 8 or 4 bits, and a scale for each block of it.

    For inference alone: no gradients. Its weight is `weight` (out, blocks, bytes), uint8, and
    `scales` (out * blocks,), float32, until it is ready to multiply; what does that lays them out
    in a way of its own, and they are None from then on.

    Args:
        linear: its weight may be on the meta device, for one that is read from a file.
        is_head: keep a `sample` of the weight as it was: files of memories know a model by it.
    """

    weight: Tensor | None
    scales: Tensor | None
    sample: Tensor | None

    def __init__(self, linear: nn.Linear, bits: int, is_head: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bits = bits
        self.bias = linear.bias
        weight, scales = quantized(linear.weight, bits)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.register_buffer("sample", sample_of(linear.weight) if is_head else None)
        self._session: Any = None

    def make_ready(self) -> None:
        """Build what multiplies; the weight is in there alone."""
        if self._session is None:
            weight, scales = cast(Tensor, self.weight), cast(Tensor, self.scales)
            self._session = _session(weight, scales, self.in_features, self.bits)
            self.weight = self.scales = None

    @property
    def is_ready(self) -> bool:
        """Whether its weight can no longer be saved."""
        return self._session is not None

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype that comes in."""
        self.make_ready()
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
        """Of the weight, its scales, and the sums of its blocks that products take."""
        block = block_of(self.in_features)
        blocks = self.out_features * -(-self.in_features // block)
        return blocks * (block * self.bits // 8 + 8)

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
        weight = linear.weight.detach()
        whole, scale = weight.new_empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
        size = max(1, _IN_CACHE // weight.shape[1])
        for first in range(0, len(weight), size):
            part = weight[first : first + size].float()
            largest = part.abs().amax(1).clamp_min_(1e-30) / 127
            whole[first : first + size] = (part / largest[:, None]).round_()
            scale[first : first + size] = largest
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("whole", whole, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype that comes in."""
        rows = input.reshape(-1, self.in_features)
        product = input.new_empty(len(rows), self.out_features)
        # Some rows at a time: sums and their float32 take memory.
        for first in range(0, len(rows), _ROWS):
            product[first : first + _ROWS] = self._of_some(rows[first : first + _ROWS].float())
        return product.view(*input.shape[:-1], self.out_features)

    def _of_some(self, rows: Tensor) -> Tensor:
        scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30) / 127
        sums = torch._int_mm((rows / scale).round_().to(torch.int8), self.whole.T)
        product = sums.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            product += self.bias
        return product


def session_options(threads: int) -> Any:
    """Of an ONNX Runtime session whose threads sleep where they wait.

    Those that wait busily take the cores from torch's, and from all else on the machine.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(weight: Tensor, scales: Tensor, width: int, bits: int) -> Any:
    """As a model of one product, whose numbers are handed over: in its bytes they would stay."""
    import onnxruntime
    from onnx import TensorProto, helper

    shape: dict[str, Any] = {"K": width, "N": len(weight), "bits": bits}
    shape["block_size"] = block_of(width)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain=_DOMAIN, accuracy_level=4, **shape
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", width])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", len(weight)])]
    parts = {"w": weight.numpy(), "s": scales.numpy()}
    graph = helper.make_graph(
        [node], "linear", inputs, outputs, [_elsewhere(name, part) for name, part in parts.items()]
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    options = session_options(min(torch.get_num_threads(), _MOST_THREADS))
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.add_external_initializers(
        list(parts), [onnxruntime.OrtValue.ortvalue_from_numpy(part) for part in parts.values()]
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _elsewhere(name: str, values: np.ndarray) -> Any:
    """A tensor of a model whose numbers are not in the model."""
    from onnx import TensorProto, helper

    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "memory"), ("offset", "0"), ("length", str(values.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def quantized(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(out, in) -> values (out, blocks, bytes), uint8 around their middle; scales (out * blocks,).

    The largest number of a block is met exactly. Of a weight without numbers (meta), their shapes.
    """
    size, block_size = len(weight), block_of(weight.shape[1])
    blocks = -(-weight.shape[1] // block_size)
    values = weight.new_empty(size, blocks, block_size * bits // 8, dtype=torch.uint8)
    scales = weight.new_empty(size * blocks, dtype=torch.float32)
    if weight.is_meta:
        return values, scales
    middle, at_once = 2 ** (bits - 1), max(1, _AT_ONCE // weight.shape[1])
    for first in range(0, size, at_once):
        part = weight[first : first + at_once].detach().float()
        block = F.pad(part, (0, -part.shape[1] % block_size)).unflatten(1, (-1, block_size))
        scale = block.gather(-1, block.abs().argmax(-1, keepdim=True)) / -middle
        whole = (block / scale.masked_fill(scale == 0, 1)).round_().add_(middle)
        whole = whole.clamp_(0, 2 * middle - 1).to(torch.uint8)
        if bits == 4:  # two in a byte, the first in its lower half
            whole = whole[..., 0::2] | (whole[..., 1::2] << 4)
        values[first : first + at_once] = whole
        scales[first * blocks : (first + at_once) * blocks] = scale.flatten()
    return values, scales
