"""Slow-Fast as an attention interface: gated cross-attention from text tokens to slow tokens.

Every decoder of transformers looks its attention function up by name and hands it the query after
RoPE, before `o_proj`. That is where Slow-Fast adds its part, so no language model is forked:
`make_hybrid` gives a layer's attention a `cross_attn` child and the name of `slow_fast_attention`.
The language model's own config keeps the implementation that the user chose.

Letters in shapes: B rows, L text positions, S slow tokens, H query heads, K key/value heads,
d head dimension.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig
from slowfast_mllm.model.narrow_slow import NarrowSlow, attend_narrow, widened
from slowfast_mllm.model.slow_evidence import SlowEvidence
from slowfast_mllm.model.video_memory import MemoryBatch

INTERFACE_NAME = "slow_fast"
_BLOCK = 4096  # slow tokens


@dataclass(frozen=True)
class SlowQueries:
    """Which positions of (B, L) attend the slow tokens.

    Attributes:
        positions: (B, N), their indices; rows with fewer are filled up with others. None: all L.
        mask: (B, N), False for fillers and for positions that do not attend. None: all do.
    """

    positions: Tensor | None
    mask: Tensor | None

    def to(self, device: torch.device | str | int, **_: Any) -> "SlowQueries":
        """On the device of a layer; accelerate calls this where layers lie on several."""
        moved = (None if x is None else x.to(device) for x in (self.positions, self.mask))
        return SlowQueries(*moved)

    @classmethod
    def of(cls, attends: Tensor | None) -> "SlowQueries":
        """From a mask (B, L), True where a position attends; None: everywhere."""
        # One position is not worth choosing, and compiled graphs have no shapes made of data.
        if attends is None or attends.shape[1] == 1 or torch.compiler.is_compiling():
            return cls(None, attends)
        counts = attends.sum(1)
        width = int(counts.max())
        if width == attends.shape[1]:
            return cls(None, attends)
        positions = attends.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
        return cls(positions, torch.arange(width, device=attends.device) < counts[:, None])


class Gate(nn.Module):
    """How much of the cross-attention each token lets in: a number per token times a scalar."""

    def __init__(self, dim: int, activation: str, scale: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 1)
        self.activation = activation
        self.scale_kind = scale
        if scale != "none":
            self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, self_attention_output: Tensor) -> Tensor:
        """(B, L, H * d) -> (B, L, 1)."""
        gate = self.proj(self_attention_output)
        if self.activation == "tanh":
            gate = gate.tanh()
        if self.scale_kind == "none":
            return gate
        return gate * (self.scale.tanh() if self.scale_kind == "tanh" else self.scale)


class SlowCrossAttention(nn.Module):
    """The slow keys and values of one hybrid layer, and the attention to them.

    Slow keys carry no rotary position, queries are the layer's own after RoPE (as published).
    """

    def __init__(self, config: SlowFastConfig, attention: Any, layer_idx: int) -> None:
        super().__init__()
        text = config.text_config
        self.layer_idx = layer_idx
        self.head_dim = int(attention.head_dim)
        self.num_heads = text.num_attention_heads
        self.num_kv_heads = text.num_key_value_heads
        self.scaling = float(attention.scaling)
        bias = has_kv_bias(attention)
        width = self.num_kv_heads * self.head_dim
        self.k_proj = nn.Linear(text.hidden_size, width, bias=bias)
        self.v_proj = nn.Linear(text.hidden_size, width, bias=bias)
        self.gate = Gate(self.num_heads * self.head_dim, config.gate_activation, config.gate_scale)

    def project(self, slow_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Normed slow tokens (S, D) -> keys and values (K, S, d). Once per video, never again."""

        def heads_first(projected: Tensor) -> Tensor:
            # Laid out once as every later step reads them: each head's tokens in one piece.
            heads = projected.unflatten(-1, (-1, self.head_dim))
            return heads.transpose(0, 1).contiguous()

        return heads_first(self.k_proj(slow_tokens)), heads_first(self.v_proj(slow_tokens))

    def forward(
        self, query: Tensor, self_output: Tensor, memory: MemoryBatch, who: SlowQueries
    ) -> Tensor:
        """Gated cross-attention, to be added to the self-attention output.

        Args:
            query: (B, H, L, d) after RoPE.
            self_output: (B, L, H, d), what the gate looks at.
            memory: slow keys and values (B, K, S, d) of this layer.
            who: the positions that attend; the others cost nothing.

        Returns:
            (B, L, H, d).
        """
        if who.positions is None:
            return self._attend(query, self_output, memory, who.mask)
        rows = who.positions[..., None, None].expand(-1, -1, *self_output.shape[2:])
        query = query.gather(2, rows.transpose(1, 2))
        attended = self._attend(query, self_output.gather(1, rows), memory, who.mask)
        return torch.zeros_like(self_output).scatter_add(1, rows, attended.to(self_output.dtype))

    def tell(
        self, evidence: SlowEvidence, query: Tensor, self_output: Tensor, memory: MemoryBatch
    ) -> None:
        """Let `evidence` add up what this layer reads; see `forward`."""
        gate = self.gate(self_output.flatten(2))
        keys = widened(memory.slow_keys[self.layer_idx])
        evidence.add(query * self.scaling, keys, gate, memory.slow_mask)

    def _attend(
        self, query: Tensor, self_output: Tensor, memory: MemoryBatch, mask: Tensor | None
    ) -> Tensor:
        """(B, H, N, d) and (B, N, H, d) of N positions -> (B, N, H, d); zero where masked."""
        batch, heads, length, dim = query.shape
        # The query heads of one key head become extra query positions, so that keys and values are
        # never repeated; without causality the order of queries means nothing.
        keys = memory.slow_keys[self.layer_idx].shape[1]
        if keys * self.num_heads != heads * self.num_kv_heads:
            raise ValueError(
                f"video_memory: {keys} key heads beside {heads} of queries; encode the video with "
                "this model, or load its `.sfmem` file."
            )
        grouped = query.reshape(batch, keys, -1, dim)
        attended = self._attended(grouped, memory, length)
        attended = attended.reshape(batch, heads, length, dim).transpose(1, 2)
        gate = self.gate(self_output.flatten(2))
        if mask is not None:
            gate = gate * mask[..., None]
        return gate[..., None] * attended

    def _attended(self, query: Tensor, memory: MemoryBatch, length: int) -> Tensor:
        """(B, K, N, d) of `length` positions -> (B, K, N, d), in the way that is fast here."""
        keys, values = memory.slow_keys[self.layer_idx], memory.slow_values[self.layer_idx]
        if isinstance(keys, NarrowSlow) and isinstance(values, NarrowSlow):
            return attend_narrow(query, keys, values, memory.slow_lengths, self.scaling)
        attention: Callable[..., Tensor] = F.scaled_dot_product_attention
        if query.device.type == "cpu" and query.dtype == torch.bfloat16:
            if length == 1:
                attention = _attend_in_steps
            elif memory.slow_mask is None and not torch.is_grad_enabled():
                attention = _attend_in_blocks
        return attention(
            query,
            keys,
            values,
            attn_mask=None if memory.slow_mask is None else memory.slow_mask.to(query.device),
            scale=self.scaling,
        )


def _attend_in_steps(
    query: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None, scale: float
) -> Tensor:
    """`scaled_dot_product_attention` as three operations, as the eager attention of transformers.

    For a few queries the fused CPU kernel computes in bfloat16 at half the speed of memory, and
    with no more threads than key heads; scores are rounded to bfloat16 here.
    """
    scores = (query * scale) @ keys.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ values


def _attend_in_blocks(
    query: Tensor, keys: Tensor, values: Tensor, attn_mask: None, scale: float
) -> Tensor:
    """The same for many queries, over blocks of slow tokens whose scores stay in the CPU's cache.

    The fused CPU kernel computes in bfloat16 at less than half of this speed. Each block is summed
    with its own largest score taken off, as in Flash-Attention (arXiv 2205.14135).
    """
    query = query * scale
    tops, sums, outputs = [], [], []
    for some_keys, some_values in zip(keys.split(_BLOCK, 2), values.split(_BLOCK, 2), strict=True):
        scores = query @ some_keys.transpose(-1, -2)
        tops.append(scores.amax(-1, keepdim=True))
        scores = scores.sub_(tops[-1]).exp_()
        sums.append(scores.sum(-1, keepdim=True, dtype=torch.float32))
        outputs.append(scores @ some_values)
    top = torch.stack(tops).float()
    share = (top - top.amax(0)).exp()
    summed = (torch.stack(outputs) * share).sum(0) / (torch.stack(sums) * share).sum(0)
    return summed.to(query.dtype)


def has_kv_bias(attention: nn.Module) -> bool:
    """Whether the key projection (separate or fused with the query's) has a bias."""
    for name in ("k_proj", "qkv_proj"):
        if hasattr(attention, name):
            return getattr(attention, name).bias is not None
    return False


EVERYWHERE = SlowQueries(None, None)


class HybridLayerConfig:
    """The language model's config as a hybrid layer's attention sees it: another interface name.

    Everything else is read from (and written to) the language model's own config.
    """

    def __init__(self, language_model_config: PreTrainedConfig) -> None:
        object.__setattr__(self, "language_model_config", language_model_config)

    _attn_implementation = INTERFACE_NAME

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "language_model_config":  # while being copied
            raise AttributeError(name)
        return getattr(self.language_model_config, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.language_model_config, name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "HybridLayerConfig":
        # The memo keeps one config object for the whole copied model, as in the original.
        return HybridLayerConfig(copy.deepcopy(self.language_model_config, memo))


class _KernelView:
    """An attention module with the language model's own config: kernels look their own name up."""

    def __init__(self, module: nn.Module, config: PreTrainedConfig) -> None:
        self.module = module
        self.config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def make_hybrid(language_model: nn.Module, config: SlowFastConfig, layer_idx: int) -> None:
    """Turn a decoder layer of transformers into a hybrid layer, in place.

    Raises:
        ValueError: the layer is not one of attention with heads as most families have it.
    """
    layers = getattr(language_model, "layers", None)
    attention: Any = None if layers is None else getattr(layers[layer_idx], "self_attn", None)
    if not hasattr(attention, "head_dim"):
        raise ValueError(
            f"text_config: layer {layer_idx} of {config.text_config.model_type!r} has no "
            "`self_attn` with a `head_dim`, so it cannot be a hybrid layer; choose other "
            "hybrid_layers or another family, e.g. qwen2, qwen3 or llama."
        )
    attention.cross_attn = SlowCrossAttention(config, attention, layer_idx)
    attention.config = HybridLayerConfig(attention.config)


def slow_fast_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    slow_memory: MemoryBatch | EllipsisType | None = ...,
    slow_queries: SlowQueries = EVERYWHERE,
    slow_evidence: SlowEvidence | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Ordinary self-attention by the kernel that the user chose, plus gated slow attention.

    `slow_memory` is None for prompts without video. Left out (`...`) it has been lost on the way
    down, and going on would be to answer without having looked. `slow_evidence` collects what is
    read.
    """
    config = module.config.language_model_config
    if slow_memory is ...:
        raise ValueError(
            f"text_config: {config.model_type!r} does not hand `slow_memory` down to its attention "
            "(or its language model was called by itself); use another family, e.g. qwen2, qwen3 "
            "or llama."
        )
    eager = sys.modules[type(module).__module__].eager_attention_forward
    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager)
    view = _KernelView(module, config)
    output, weights = kernel(view, query, key, value, attention_mask, **kwargs)
    if slow_memory is not None:
        if slow_evidence is not None:
            module.cross_attn.tell(slow_evidence, query, output, slow_memory)
        output = output + module.cross_attn(query, output, slow_memory, slow_queries)
    return output, weights


ALL_ATTENTION_FUNCTIONS.register(INTERFACE_NAME, slow_fast_attention)
