"""Writes a Slow-Fast model as ONNX graphs, and checks each against torch before it says done.

Four graphs, each for any number of what it takes: the vision tower (frames), the projector (cells),
slow keys and values (slow tokens), and the language model's step (rows, new tokens, tokens before,
slow tokens), which is prefill and decode in one. Pools over time, detections, embedding and head
stay in torch (`exported_model` says how it all runs).
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from slowfast_mllm.engine.catalog import checkpoint_of
from slowfast_mllm.engine.encoded_video import fingerprint
from slowfast_mllm.engine.exported_model import (
    FORMAT,
    MANIFEST,
    REST,
    load_exported,
    needs_packages,
    session,
    step_names,
)
from slowfast_mllm.engine.loading import ModelError, appearing, load_checkpoint, refuse_filled
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.narrow_slow import widened
from slowfast_mllm.model.slow_attention import SlowQueries
from slowfast_mllm.model.transformers_names import CACHE
from slowfast_mllm.model.video_memory import MemoryBatch, VideoMemory
from slowfast_mllm.model.whole_checkpoint import first_line

_COUNTS = (1, 2, 23)  # of frames and tokens; an odd one, which graphs of fixed pools get wrong
_STEPS = ((1, 1, 7, 3), (1, 5, 0, 23), (2, 3, 4, 1), (2, 1, 23, 46))  # rows, new, before, slow
_TOLERANCE = 1e-3  # of the largest value


class _Tower(nn.Module):
    """(N, C, H, W) -> what the tower gives out, a map or tokens."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps: Tensor = self.tower(pixel_values=pixel_values).last_hidden_state
        return maps


class _SlowKeys(nn.Module):
    """(S, D) -> keys and values (K, S, d) of one hybrid layer after the other."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, slow: Tensor) -> list[Tensor]:
        keys, values = self.model.slow_keys_and_values(slow)
        return [tensor for index in keys for tensor in (keys[index], values[index])]


class _Step(nn.Module):
    """The language model over new tokens; returns hidden states and their keys and values."""

    def __init__(self, language_model: Any, hybrid_layers: Sequence[int]) -> None:
        super().__init__()
        self.language_model = language_model
        self.hybrid_layers = hybrid_layers

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor,
        positions: Tensor,
        attends: Tensor,
        slow_mask: Tensor,
        past: list[Tensor],
        slow: list[Tensor],
    ) -> list[Tensor]:
        cache = DynamicCache()
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer = DynamicLayer()
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            layer.dtype, layer.device = keys.dtype, keys.device
            cache.layers.append(layer)
        memory = MemoryBatch(
            None,
            dict(zip(self.hybrid_layers, slow[::2], strict=True)),
            dict(zip(self.hybrid_layers, slow[1::2], strict=True)),
            slow_mask,
        )
        hidden = self.language_model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            slow_memory=memory,
            slow_queries=SlowQueries(None, attends),
            use_cache=True,
            **{CACHE: cache},
        ).last_hidden_state
        before = past[0].shape[2]
        new = [x[:, :, before:] for layer in cache.layers for x in (layer.keys, layer.values)]
        return [hidden, *new]


def export_model(source: str, target: Path) -> None:
    """Write the graphs of a checkpoint, with all that `load` needs, into `target`.

    Args:
        source: folder, hub id or alias of a checkpoint; "slowfast-mini": the packaged one.
        target: a new or empty folder; it appears when every graph has been checked.

    Raises:
        ValueError: `target` holds something, or a graph differs from torch.
        ModelError: `source` cannot be loaded or exported, or a package is not installed.
    """
    needs_packages("onnx", "onnxscript", "onnxruntime")
    refuse_filled(target)
    network, processor = load_checkpoint(checkpoint_of(source), "cpu", "float32")
    text = network.config.text_config
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=text).layers):
        raise ModelError(
            f"{source}: its {text.model_type!r} language model has layers that do not keep all "
            "tokens, for which there is no exported step; use the checkpoint itself."
        )
    if not network.config.hybrid_layers:
        raise ModelError(f"{source}: has no hybrid layers to export; use the checkpoint itself.")
    with appearing(target) as new:
        new.mkdir()
        original = text._attn_implementation
        network.set_attn_implementation({"text_config": "eager"})  # plain products of matrices
        with torch.no_grad():
            for name, graph, arguments, sizes in _graphs(network):
                _write(new / f"{name}.onnx", graph, arguments, sizes)
                _check(new / f"{name}.onnx", graph, arguments)
        network.set_attn_implementation({"text_config": original})
        _write_rest(network, new)
        processor.save_pretrained(new)
        facts = {
            "format": FORMAT,
            "fingerprint": fingerprint(network, processor),
            "exact": fingerprint(network, processor, torch.float32),
        }
        (new / MANIFEST).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        _check_whole(network, load_exported(str(new))[0])


def _write_rest(network: SlowFastForConditionalGeneration, folder: Path) -> None:
    """Config, and the weights that no graph holds."""
    network.config.save_pretrained(folder)
    network.generation_config.save_pretrained(folder)
    exported = ("model.vision_tower.", "model.multi_modal_projector.", "model.language_model.")
    rest = {
        name: weight.contiguous().clone()
        for name, weight in network.state_dict().items()
        if not name.startswith(exported)
    }
    rest["embedding"] = network.get_input_embeddings().weight.detach().clone()
    if network.config.tie_word_embeddings:
        del rest["lm_head.weight"]
    save_file(rest, folder / REST)


_Graph = tuple[str, nn.Module, list[list[Any]], Any]


def _graphs(network: SlowFastForConditionalGeneration) -> Iterator[_Graph]:
    """Name, module, arguments of some sizes (those of the last are traced), and free sizes."""
    model, config = network.model, network.config
    side, free = config.vision_config.image_size, torch.export.Dim.DYNAMIC
    channels = config.vision_config.num_channels
    frames = [[torch.randn(n, channels, side, side)] for n in _COUNTS]
    yield "tower", _Tower(model.vision_tower), frames, ({0: free},)
    cells = [[torch.randn(n, config.vision_config.hidden_size)] for n in _COUNTS]
    yield "projector", model.multi_modal_projector, cells, ({0: free},)
    slow = [[torch.randn(n, config.text_config.hidden_size)] for n in _COUNTS]
    yield "slow", _SlowKeys(model), slow, ({0: free},)
    language = model.language_model
    past, memory = 2 * config.text_config.num_hidden_layers, 2 * len(config.hybrid_layers)
    sizes = (
        *({0: free, 1: free}, {0: free, 2: free, 3: free}, {0: free, 1: free}),
        *({0: free, 1: free}, {0: free, 3: free}),
        [{0: free, 2: free} for _ in range(past)],
        [{0: free, 2: free} for _ in range(memory)],
    )
    steps = [_step_arguments(network, *size) for size in (*_STEPS, (2, 3, 5, 7))]
    yield "step", _Step(language, config.hybrid_layers), steps, sizes


def _step_arguments(
    network: SlowFastForConditionalGeneration, rows: int, new: int, before: int, slow: int
) -> list[Any]:
    """Random ones of a step; the last slow token of the last row is masked where there are some."""
    text = network.config.text_config
    attention: Any = network.model.language_model.layers[0].self_attn
    heads = (rows, text.num_key_value_heads)
    sight = torch.ones(new, before + new, dtype=torch.bool).tril(before)
    mask = torch.zeros(rows, 1, new, before + new).masked_fill(~sight, torch.finfo().min)
    positions = torch.arange(before, before + new).expand(rows, new).contiguous()
    attends = torch.ones(rows, new, dtype=torch.bool)
    attends[0, 0] = new == 1
    slow_mask = torch.ones(rows, 1, 1, slow, dtype=torch.bool)
    slow_mask[-1, ..., -1] = slow == 1
    past = [
        torch.randn(*heads, before, attention.head_dim) for _ in range(2 * text.num_hidden_layers)
    ]
    keys = [
        torch.randn(*heads, slow, attention.head_dim)
        for _ in range(2 * len(network.config.hybrid_layers))
    ]
    embeds = torch.randn(rows, new, text.hidden_size)
    return [embeds, mask, positions, attends, slow_mask, past, keys]


def _flat(arguments: Sequence[Any]) -> list[Tensor]:
    return [t for a in arguments for t in (a if isinstance(a, list) else [a])]


def _write(path: Path, graph: nn.Module, arguments: list[list[Any]], sizes: Any) -> None:
    names = {"tower": ["pixel_values"], "projector": ["maps"], "slow": ["slow"]}
    inputs = names.get(path.stem) or step_names(len(arguments[-1][5]), len(arguments[-1][6]))
    logging.getLogger("torch.onnx").setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                tuple(arguments[-1]),
                str(path),
                input_names=inputs,
                dynamic_shapes=sizes,
                dynamo=True,
                external_data=True,
                verbose=False,
            )
    except OSError:
        raise
    except Exception as error:  # exporters raise what they like
        raise ModelError(
            f"its {path.stem} cannot be written as a graph ({first_line(error)}); use the "
            "checkpoint itself."
        ) from error


def _check(path: Path, graph: nn.Module, arguments: list[list[Any]]) -> None:
    """Whether onnxruntime gives what torch gives, at all sizes."""
    running = session(path)
    for some in arguments:
        expected = graph(*some)
        expected = [expected] if isinstance(expected, Tensor) else expected
        try:
            found = running(*_flat(some))
        except Exception as error:  # onnxruntime's own kinds
            raise ValueError(
                f"the exported {path.stem} does not run for inputs of {tuple(some[0].shape)} "
                f"({first_line(error)}); nothing was written."
            ) from error
        for ours, theirs in zip(found, expected, strict=True):
            _compare(path.stem, ours, theirs, tuple(some[0].shape))


def _compare(name: str, found: Tensor, expected: Tensor, size: Any) -> None:
    same = found.shape == expected.shape
    error = float((found - expected).abs().max() / expected.abs().max()) if same else torch.inf
    if not error <= _TOLERANCE:
        raise ValueError(
            f"the exported {name} differs from torch by {error:.2g} of the largest value for "
            f"inputs of {size}; nothing was written."
        )


@torch.no_grad()
def _check_whole(
    network: SlowFastForConditionalGeneration, exported: SlowFastForConditionalGeneration
) -> None:
    """Memories of videos of several lengths, and logits of a prompt about each."""
    side = network.config.frame_size
    for count in _COUNTS:
        frames = torch.randn(count, 3, side, side)
        memories = [model.encode_video(frames) for model in (exported, network)]
        for ours, theirs in zip(*map(_tensors, memories), strict=True):
            _compare("memory", ours, theirs, f"{count} frames")
        ids = torch.full((1, len(memories[0].fast_tokens)), network.config.video_token_id)
        ids = torch.cat([ids, torch.tensor([[5, 6, 7]])], 1)
        ours, theirs = (
            model(input_ids=ids, video_memory=memory).logits
            for model, memory in zip((exported, network), memories, strict=True)
        )
        _compare("model", ours, theirs, f"{count} frames")


def _tensors(memory: VideoMemory) -> list[Tensor]:
    slow = [*memory.slow_keys.values(), *memory.slow_values.values()]
    return [memory.fast_tokens, *map(widened, slow)]
