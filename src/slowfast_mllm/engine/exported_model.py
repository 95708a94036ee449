"""Runs what `slowfast export` wrote: a Slow-Fast model whose large parts are ONNX graphs.

The model is the same class, without the weights of what the graphs compute; sampling, memories,
beams, batches and all else around it are as ever.
"""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPast

from slowfast_mllm.engine.loading import (
    ModelError,
    load_processor,
    on_paper,
    read_config,
    ready_to_ask,
    unusable,
)
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.cpu_linear import session_options
from slowfast_mllm.model.hardware import threads_for
from slowfast_mllm.model.narrow_slow import widened
from slowfast_mllm.model.slow_attention import SlowQueries
from slowfast_mllm.model.transformers_names import CACHE
from slowfast_mllm.model.video_memory import MemoryBatch
from slowfast_mllm.processing import SlowFastProcessor

FORMAT = 1
MANIFEST, REST = "export.json", "rest.safetensors"


def needs_packages(*names: str) -> None:
    """
    Raises:
        ModelError: one is not installed.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"exported models: need {', '.join(missing)}; `pip install 'slowfast-mllm[export]'`."
        )


def is_exported(path: str) -> bool:
    return os.path.isfile(os.path.join(path, MANIFEST))  # names may be too long for a file


def session(path: Path) -> Callable[..., list[Tensor]]:
    """A graph as a function from tensors to tensors, on the CPU. Safe between threads."""
    import onnxruntime

    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    options = session_options(threads_for(size // 4))
    running = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [found.name for found in running.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        given = {
            name: tensor.detach().contiguous().numpy()
            for name, tensor in zip(names, tensors, strict=True)
        }
        return [torch.from_numpy(found) for found in running.run(None, given)]

    return run


def step_names(past: int, slow: int) -> list[str]:
    """Inputs of the step's graph: keys and values in turn, layer after layer."""
    kinds = ("keys", "values")
    return [
        *("embeds", "mask", "positions", "attends", "slow_mask"),
        *(f"past_{kinds[i % 2]}_{i // 2}" for i in range(past)),
        *(f"slow_{kinds[i % 2]}_{i // 2}" for i in range(slow)),
    ]


class ExportedStep:
    """Stands in for the `forward` of the language model."""

    def __init__(self, run: Callable[..., list[Tensor]], language_model: Any, hybrid: Any) -> None:
        self.run = run
        self.layers = language_model.config.num_hidden_layers
        self.heads = language_model.config.num_key_value_heads
        self.head_dim = language_model.layers[0].self_attn.head_dim
        self.hybrid = hybrid

    def __call__(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        slow_memory: MemoryBatch | None,
        slow_queries: SlowQueries,
        slow_evidence: Any = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        if slow_evidence is not None:
            raise ValueError("an exported model does not tell what it read; ask its checkpoint.")
        cache: Cache | None = kwargs.get(CACHE)
        rows, new = inputs_embeds.shape[:2]
        past = self._past(cache, rows)
        before = past[0].shape[2]
        if position_ids is None:
            position_ids = torch.arange(before, before + new)[None]
        hidden, *grown = self.run(
            inputs_embeds.float(),
            additive_mask(attention_mask, new, before, rows),
            position_ids.expand(rows, new),
            *self._slow(slow_memory, slow_queries, rows, new, past),
        )
        if cache is not None:
            for layer in range(self.layers):
                cache.update(grown[2 * layer], grown[2 * layer + 1], layer)
        return BaseModelOutputWithPast(last_hidden_state=hidden, **{CACHE: cache})

    def _past(self, cache: Cache | None, rows: int) -> list[Tensor]:
        if cache is None or not cache.get_seq_length():
            return [torch.zeros(rows, self.heads, 0, self.head_dim)] * (2 * self.layers)
        layers: Any = cache.layers
        return [x for layer in layers for x in (layer.keys, layer.values)]

    def _slow(
        self,
        memory: MemoryBatch | None,
        who: SlowQueries,
        rows: int,
        new: int,
        past: list[Tensor],
    ) -> list[Tensor]:
        """Who attends, which slow tokens, what was before, slow keys and values."""
        if memory is None or not self.hybrid:  # nobody, to a token of zeros
            none = torch.zeros(rows, self.heads, 1, self.head_dim)
            attends = torch.zeros(rows, new, dtype=torch.bool)
            mask = torch.ones(rows, 1, 1, 1, dtype=torch.bool)
            return [attends, mask, *past, *[none] * (2 * len(self.hybrid))]
        attends = torch.ones(rows, new, dtype=torch.bool)
        if who.positions is not None and who.mask is not None:
            attends = torch.zeros_like(attends).scatter(1, who.positions, who.mask)
        elif who.mask is not None:
            attends = who.mask
        sides = memory.slow_keys, memory.slow_values
        slow = [widened(side[i]) for i in self.hybrid for side in sides]
        seen = memory.slow_mask
        if seen is None:
            seen = torch.ones(rows, 1, 1, slow[0].shape[2], dtype=torch.bool)
        return [attends, seen, *past, *(x.float() for x in slow)]


def additive_mask(given: Tensor | None, new: int, before: int, rows: int) -> Tensor:
    """(B, 1, L, P + L): 0 where a token sees another; from (B, P + L), one like it, or none."""
    if given is not None and given.ndim == 4:
        if given.dtype == torch.bool:
            return torch.zeros(given.shape).masked_fill(~given, torch.finfo().min)
        return given.float().expand(rows, -1, -1, -1)
    sight = torch.ones(new, before + new, dtype=torch.bool).tril(before)[None, None]
    if given is not None:
        sight = sight & given[:, None, None, : before + new].bool()
    sight = sight.expand(rows, -1, -1, -1)
    return torch.zeros(sight.shape).masked_fill(~sight, torch.finfo().min)


def load_exported(
    path: str,
) -> tuple[SlowFastForConditionalGeneration, SlowFastProcessor, list[str]]:
    """Model, processor, and the fingerprints of the checkpoint (in bfloat16 and exact).

    Raises:
        ModelError: files are missing, damaged or of another version, or onnxruntime is missing.
    """
    needs_packages("onnxruntime")
    folder = Path(path)
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, fingerprints = facts["format"], [facts["fingerprint"], facts["exact"]]
    except (ValueError, KeyError, TypeError) as error:
        raise unusable(path, error) from error
    if version != FORMAT:
        raise ModelError(
            f"{path}: an export of format {version}, and this version reads {FORMAT}; export the "
            "checkpoint again."
        )
    network: Any = on_paper(read_config(path))
    try:
        _put_graphs(network, folder)
        rest = load_file(folder / REST)
        embedding = rest.pop("embedding")
        head = rest.pop("lm_head.weight", embedding)
        network.load_state_dict(rest, strict=False, assign=True)
        network.set_input_embeddings(nn.Embedding.from_pretrained(embedding))
        network.lm_head.weight = nn.Parameter(head, requires_grad=False)
        network.generation_config = GenerationConfig.from_pretrained(path)
        if any(tensor.is_meta for tensor in network.state_dict().values()):
            raise ValueError("weights are missing")
    except Exception as error:  # damaged files raise what they like
        raise unusable(path, error) from error
    processor = load_processor(path)
    ready_to_ask(network, processor)
    return network.eval(), processor, fingerprints


def _put_graphs(network: Any, folder: Path) -> None:
    """Graphs for the parts that they compute, whose weights on paper are dropped."""
    model = network.model
    tower, projector, slow, step = (
        session(folder / f"{name}.onnx") for name in ("tower", "projector", "slow", "step")
    )
    hybrid = list(network.config.hybrid_layers)
    run_step = ExportedStep(step, model.language_model, hybrid)
    for part in (model.vision_tower, model.multi_modal_projector, model.language_model):
        for module in part.modules():
            module._parameters.clear()
            module._buffers.clear()

    def encode(pixel_values: Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=tower(pixel_values)[0])

    def project(maps: Tensor) -> Tensor:
        return projector(maps.reshape(-1, maps.shape[-1]))[0].unflatten(0, maps.shape[:-1])

    def keys_and_values(tokens: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        found = slow(tokens)
        keys = dict(zip(hybrid, found[::2], strict=True))
        return keys, dict(zip(hybrid, found[1::2], strict=True))

    model.vision_tower.forward = encode
    model.multi_modal_projector.forward = project
    model.slow_keys_and_values = keys_and_values
    model.reads_narrow = False  # the graph has float32 slow keys and values
    model.reads_views = False  # of which it takes copies
    model.language_model.forward = run_step
