"""One step of a hybrid language model without torch: in numpy, or by an exported graph.

The forward of `slow_attention` for one row of text about one memory; a test compares them. Letters
in shapes: L new tokens, P tokens before, S slow tokens, H query and K key heads, d head dimension.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slowfast_mllm.engine.quick_files import Floats, Safetensors

_SMALL = 80 << 20  # bytes of a graph's weights from which on more than one thread is worth it


@dataclass
class Sequence:
    """What a row has read: keys and values (K, P, d) in turn, layer after layer; and what of a
    video it attends, slow keys and values (K, S, d) of each hybrid layer."""

    past: list[Floats]
    slow: dict[int, tuple[Floats, Floats]]

    @property
    def length(self) -> int:
        return self.past[0].shape[1] if self.past else 0


class Step(Protocol):
    """Reads new tokens."""

    embedding: Floats
    head: Floats

    def __call__(self, embeds: Floats, attends: NDArray[np.bool_], row: Sequence) -> Floats:
        """Embeddings (L, D), of which some attend the slow tokens -> hidden states (L, D)."""


def fits_numpy(config: dict[str, Any]) -> bool:
    """Whether `NumpyStep` computes what a config describes."""
    text = config["text_config"]
    rope = text.get("rope_parameters", {})
    return bool(
        text["model_type"] == "qwen2"
        and text["hidden_act"] == "silu"
        and not text["use_sliding_window"]
        and rope.get("rope_type") == "default"
        and "quantization_config" not in config
    )


class NumpyStep:
    """A Qwen2 with hybrid layers; for few weights: they are widened to float32."""

    def __init__(self, config: dict[str, Any], weights: Safetensors) -> None:
        self.config = config
        text = config["text_config"]
        self.heads = text["num_attention_heads"]
        self.kv_heads = text["num_key_value_heads"]
        self.dim = text.get("head_dim") or text["hidden_size"] // self.heads
        self.epsilon = text["rms_norm_eps"]
        self.layers = range(text["num_hidden_layers"])
        base = text["rope_parameters"]["rope_theta"]
        exponent = np.arange(0, self.dim, 2, dtype=np.float32) / self.dim
        self.frequencies = (1 / base**exponent).astype(np.float32)
        self._weights = weights
        self._read: dict[str, Floats] = {}
        self.embedding = self._get("embed_tokens.weight")
        tied = config["tie_word_embeddings"]
        self.head = self.embedding if tied else weights.floats("lm_head.weight")

    def __call__(self, embeds: Floats, attends: NDArray[np.bool_], row: Sequence) -> Floats:
        before, new = row.length, len(embeds)
        angles = np.arange(before, before + new, dtype=np.float32)[:, None] * self.frequencies
        turn = np.cos(angles), np.sin(angles)
        sight = np.tril(np.ones((new, before + new), np.bool_), before)
        past, row.past = row.past, []
        hidden = embeds
        for index in self.layers:
            name = f"layers.{index}"
            normed = self._norm(hidden, f"{name}.input_layernorm")
            query, key, value = (
                self._heads(self._linear(normed, f"{name}.self_attn.{kind}_proj")) for kind in "qkv"
            )
            query, key = _turned(query, *turn), _turned(key, *turn)
            if past:
                key = np.concatenate([past[2 * index], key], 1)
                value = np.concatenate([past[2 * index + 1], value], 1)
            row.past += [key, value]
            attended = self._attend(query, key, value, sight)
            if index in row.slow and attends.any():
                gate = self._gate(attended, f"{name}.self_attn.cross_attn.gate") * attends[:, None]
                attended = attended + gate * self._attend(query, *row.slow[index], None)
            hidden = hidden + self._linear(attended, f"{name}.self_attn.o_proj")
            normed = self._norm(hidden, f"{name}.post_attention_layernorm")
            gated = self._linear(normed, f"{name}.mlp.gate_proj")
            gated = gated / (1 + np.exp(-gated)) * self._linear(normed, f"{name}.mlp.up_proj")
            hidden = hidden + self._linear(gated, f"{name}.mlp.down_proj")
        return self._norm(hidden, "norm")

    def _get(self, name: str) -> Floats:
        if name not in self._read:
            self._read[name] = self._weights.floats(f"model.language_model.{name}")
        return self._read[name]

    def _linear(self, rows: Floats, name: str) -> Floats:
        product: Floats = rows @ self._get(f"{name}.weight").T
        if f"model.language_model.{name}.bias" in self._weights:
            product += self._get(f"{name}.bias")
        return product

    def _norm(self, rows: Floats, name: str) -> Floats:
        size = np.sqrt(np.square(rows).mean(-1, keepdims=True) + np.float32(self.epsilon))
        normed: Floats = rows / size * self._get(f"{name}.weight")
        return normed

    def _heads(self, rows: Floats) -> Floats:
        """(L, heads * d) -> (heads, L, d)."""
        return rows.reshape(len(rows), -1, self.dim).swapaxes(0, 1)

    def _attend(
        self, query: Floats, keys: Floats, values: Floats, sight: NDArray[np.bool_] | None
    ) -> Floats:
        """(H, L, d), keys and values (K, S, d) -> (L, H * d)."""
        grouped = query.reshape(self.kv_heads, -1, *query.shape[1:])  # (K, H / K, L, d)
        scores = grouped @ keys[:, None].swapaxes(-1, -2) / np.float32(self.dim**0.5)
        if sight is not None:
            scores = np.where(sight, scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ values[:, None]).reshape(query.shape)
        return attended.swapaxes(0, 1).reshape(query.shape[1], -1)

    def _gate(self, attended: Floats, name: str) -> Floats:
        """See `slow_attention.Gate`: (L, 1)."""
        gate = self._linear(attended, f"{name}.proj")
        if self.config["gate_activation"] == "tanh":
            gate = np.tanh(gate)
        if self.config["gate_scale"] == "none":
            return gate
        scale = self._get(f"{name}.scale")
        return gate * (np.tanh(scale) if self.config["gate_scale"] == "tanh" else scale)


class GraphStep:
    """The step that `slowfast export` wrote, run by onnxruntime."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        import onnxruntime

        rest = Safetensors(folder / "rest.safetensors")
        self.embedding = rest.floats("embedding")
        tied = "lm_head.weight" not in rest
        self.head = self.embedding if tied else rest.floats("lm_head.weight")
        self.hybrid = config["hybrid_layers"]
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if sum(file.stat().st_size for file in folder.glob("step.onnx*")) < _SMALL:
            options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "step.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.names = [given.name for given in self.session.get_inputs()]

    def __call__(self, embeds: Floats, attends: NDArray[np.bool_], row: Sequence) -> Floats:
        before, new = row.length, len(embeds)
        sight = np.tril(np.ones((new, before + new), np.bool_), before)
        slow = [part for index in self.hybrid for part in row.slow[index]]
        past: list[Floats] = row.past or self._nothing(slow[0])
        given: list[Any] = [
            embeds,
            np.where(sight, 0, np.finfo(np.float32).min).astype(np.float32)[None],
            np.arange(before, before + new),
            attends,
            np.ones((1, 1, slow[0].shape[1]), np.bool_),
            *past,
            *slow,
        ]
        named = {name: part[None] for name, part in zip(self.names, given, strict=True)}
        found: Any = self.session.run(None, named)
        row.past = [np.concatenate([p, n[0]], 1) for p, n in zip(past, found[1:], strict=True)]
        hidden: Floats = found[0][0]
        return hidden

    def _nothing(self, like: Floats) -> list[Floats]:
        """Keys and values of no tokens."""
        count = sum(name.startswith("past_") for name in self.names)
        return [np.zeros((like.shape[0], 0, like.shape[2]), np.float32)] * count


def _turned(heads: Floats, cos: Floats, sin: Floats) -> Floats:
    """RoPE as Qwen2 has it: (heads, L, d)."""
    first, second = np.split(heads, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
