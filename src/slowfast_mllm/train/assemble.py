"""A Slow-Fast model put together from a trained language model and a trained vision tower.

Projector and slow path are new. Slow keys and values start as the language model's own, and gates
start closed, so that the first step sees exactly the language model with its fast tokens.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    BaseImageProcessor,
    PreTrainedModel,
)

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastConvNextModel,
    SlowFastForConditionalGeneration,
    SlowFastVisionConfig,
)
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel
from slowfast_mllm.model.whole_checkpoint import first_line


class AssemblyError(ValueError):
    """Parts that do not make a model: which one, and why."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file of keys and values.

    Raises:
        AssemblyError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AssemblyError(f"{path}: cannot be read as JSON ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise AssemblyError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def assemble(
    language_model: str,
    vision_tower: str,
    dtype: torch.dtype = torch.float32,
    object_tower: str | None = None,
    **fields: Any,
) -> SlowFastForConditionalGeneration:
    """Put a model together.

    Args:
        language_model: checkpoint of a decoder of transformers.
        vision_tower: checkpoint of a vision model of transformers, or a folder with a ConvNeXt's
            `model.safetensors` in the layout of timm and an optional `config.json` with the fields
            of `SlowFastVisionConfig`.
        object_tower: folder of a NanoDet, whose objects become tokens beside the vision tower's.
        **fields: of `SlowFastConfig`, e.g. `hybrid_layers`.

    Raises:
        AssemblyError: a part cannot be loaded or has another architecture.
    """
    unknown = sorted(set(fields) - set(SlowFastConfig.__annotations__))
    if unknown:
        known = ", ".join(SlowFastConfig.__annotations__)
        raise AssemblyError(f"config: unknown key {unknown[0]!r}; known are {known}.")
    try:
        text = AutoModelForCausalLM.from_pretrained(
            language_model, dtype=dtype, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise AssemblyError(
            f"{language_model}: not a language model ({first_line(error)})."
        ) from error
    tower = _tower(vision_tower, dtype)
    objects = None if object_tower is None else _object_tower(object_tower, dtype)
    if objects is not None:
        fields["object_config"] = objects.config
    try:
        config = SlowFastConfig(
            text_config=text.config,
            vision_config=tower.config,
            tie_word_embeddings=bool(text.config.tie_word_embeddings),
            **fields,
        )
        model = SlowFastForConditionalGeneration(config).to(dtype)
    except (TypeError, ValueError) as error:
        raise AssemblyError(f"model: {first_line(error)}") from error
    # A hybrid layer has the layer's own names and more.
    weights = text.get_decoder().state_dict()
    _load(model.model.language_model, weights, language_model, new="cross_attn")
    model.lm_head.weight.data.copy_(text.get_output_embeddings().weight)
    _load(model.model.vision_tower, tower.state_dict(), vision_tower)
    if objects is not None:
        model.model.object_tower.load_state_dict(objects.state_dict())
    start_slow_path(model)
    return model


def pixel_statistics(vision_tower: str) -> dict[str, list[float]]:
    """`image_mean` and `image_std` that a tower was trained with, where its checkpoint tells."""
    try:
        known, _ = BaseImageProcessor.get_image_processor_dict(vision_tower)
    except OSError:
        return {}
    return {name: known[name] for name in ("image_mean", "image_std") if name in known}


def _tower(path: str, dtype: torch.dtype) -> PreTrainedModel:
    folder = Path(path)
    file, settings = folder / "model.safetensors", folder / "config.json"
    known = read_object(settings) if settings.is_file() else {}
    if not file.is_file() or known.get("model_type", "slowfast_convnext") != "slowfast_convnext":
        try:
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            config = getattr(config, "vision_config", config)
            return AutoModel.from_pretrained(
                path, config=config, dtype=dtype, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise AssemblyError(f"{path}: not a vision tower ({first_line(error)}).") from error
    names = SlowFastVisionConfig().to_dict()
    tower = SlowFastConvNextModel(
        SlowFastVisionConfig(**{k: v for k, v in known.items() if k in names})
    )
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise AssemblyError(f"{file}: damaged ({first_line(error)}).") from error
    _load(tower, weights, path)
    return tower.to(dtype)


def _object_tower(path: str, dtype: torch.dtype) -> NanoDetModel:
    try:
        kind = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
        if kind != NanoDetConfig.model_type:
            raise ValueError(f"its model_type is {kind!r}, not {NanoDetConfig.model_type!r}")
        return NanoDetModel.from_pretrained(path, given="objects", dtype=dtype)
    except (OSError, ValueError) as error:
        raise AssemblyError(f"{path}: not an object tower ({first_line(error)}).") from error


def _load(module: nn.Module, weights: dict[str, Tensor], name: str, new: str | None = None) -> None:
    """Copy weights in; only parameters whose name has `new` in it may be left as they are."""
    wanted = module.state_dict()
    other = [k for k, w in weights.items() if k in wanted and wanted[k].shape != w.shape]
    missing = [k for k in wanted if k not in weights and not (new and new in k)]
    if other or missing:
        raise AssemblyError(
            f"{name}: another architecture than its config says; `{(other or missing)[0]}` is "
            f"{'of another shape' if other else 'missing'}."
        )
    module.load_state_dict({k: w for k, w in weights.items() if k in wanted}, strict=False)


@torch.no_grad()
def start_slow_path(model: SlowFastForConditionalGeneration) -> None:
    """Slow keys and values as the language model's own, head by head; gates closed.

    Raises:
        AssemblyError: the attention's keys and values are in no layer that is known.
    """
    for index in model.config.hybrid_layers:
        attention: Any = model.model.language_model.layers[index].self_attn
        cross = attention.cross_attn
        width = cross.k_proj.out_features
        if hasattr(attention, "k_proj"):
            pairs = [(cross.k_proj, attention.k_proj), (cross.v_proj, attention.v_proj)]
            rows = [slice(None), slice(None)]
        elif hasattr(attention, "qkv_proj"):  # queries, keys, values, one after the other
            pairs = [(cross.k_proj, attention.qkv_proj), (cross.v_proj, attention.qkv_proj)]
            rows = [slice(-2 * width, -width), slice(-width, None)]
        else:
            raise AssemblyError(
                f"language_model: layer {index} of {model.config.text_config.model_type!r} has "
                "neither `k_proj` nor `qkv_proj` to start the slow path from."
            )
        for (mine, own), part in zip(pairs, rows, strict=True):
            mine.weight.copy_(own.weight[part])
            if mine.bias is not None:
                mine.bias.copy_(own.bias[part])
        if cross.gate.scale_kind != "none":
            cross.gate.scale.zero_()
