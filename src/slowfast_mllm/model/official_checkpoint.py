"""Reading official Slow-Fast checkpoints (model_type `llava_qwen_slow_fast`) as they are.

Two translations: the flat config to ours, and tensor names with the fused, head-interleaved K/V
to ours (both ways, so that a model can be written back). Nothing else knows the official names.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig, SlowFastVisionConfig

OFFICIAL_MODEL_TYPE = "llava_qwen_slow_fast"
# Fields of the official flat config that say how visual tokens are made; the rest is Qwen2's.
_VISUAL_FIELD = re.compile(r"mm_|cross_attn_|fast_token_|tune_mm_|use_mm_|tile_|freeze_|tokenizer_")
_OTHER_VISUAL_FIELDS = {"min_fast_frames", "image_aspect_ratio", "model_type", "architectures"}


class OfficialSlowFastConfig(SlowFastConfig):
    """Registered for the official model type; reading one gives a native `SlowFastConfig`."""

    model_type = OFFICIAL_MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        path = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or ""
        shapes = read_tensor_shapes(path) if os.path.isdir(path) else {}
        return SlowFastConfig.from_dict(translate_config(config_dict, shapes), **kwargs)

    @classmethod
    def get_config_dict(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        config_dict, kwargs = super().get_config_dict(path, **kwargs)
        return config_dict, {**kwargs, "name_or_path": str(path)}


def translate_config(official: dict[str, Any], shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Fields of an official config.json to the fields of `SlowFastConfig`.

    Args:
        shapes: tensor shapes of the checkpoint, from which the vision tower's depths and widths
            are read; without them the tower is the published ConvNeXt-XXL.

    Raises:
        ValueError: the checkpoint uses something that no published one does.
    """
    tower = official.get("mm_vision_tower", "convnext-576")
    size = re.fullmatch(r".*convnext.*?(\d+)", tower)
    if size is None or official.get("mm_projector_type", "mlp2x_gelu") != "mlp2x_gelu":
        raise ValueError(
            f"Official checkpoints have a ConvNeXt tower and an mlp2x_gelu projector; this says "
            f"{tower!r} and {official.get('mm_projector_type')!r}."
        )
    text = {
        name: value
        for name, value in official.items()
        if not _VISUAL_FIELD.match(name) and name not in _OTHER_VISUAL_FIELDS
    }
    attention = official["cross_attn_implementation"]
    gating = official["cross_attn_gating_type"]
    text_only = attention.startswith("text-only")
    first, every = official["cross_attn_min_layer_depth"], official["cross_attn_every_n_layers"]
    last = min(official["cross_attn_max_layer_depth"], official["num_hidden_layers"])
    scale = ("tanh" if text_only else "linear") if gating.endswith("warmup") else "none"
    return {
        "architectures": ["SlowFastForConditionalGeneration"],
        "dtype": official.get("torch_dtype") or official.get("dtype"),
        "tie_word_embeddings": official.get("tie_word_embeddings", False),
        "text_config": {**text, "model_type": "qwen2"},
        "vision_config": {
            "model_type": SlowFastVisionConfig.model_type,
            "image_size": int(size[1]),
            **_tower_shape(shapes),
        },
        "num_frames": official.get("mm_training_video_frames"),
        "hybrid_layers": list(range(first, last, every)),
        "slow_spatial_pool": official["mm_video_pooling_stride"],
        "fast_frame_stride": official["fast_token_temporal_sampling_stride"],
        "fast_temporal_pool": official["fast_token_temporal_stride"],
        "fast_spatial_pool": official["fast_token_spatial_stride"],
        "min_fast_frames": official["min_fast_frames"],
        "gate_activation": "tanh" if "tanh" in gating else "none",
        "gate_scale": scale,
        "cross_attending_tokens": "all"
        if not text_only
        else ("text_after_video" if "masksystem" in attention else "text"),
    }


def _tower_shape(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Depths and widths of the tower, counted from its depthwise convolutions."""
    depths: dict[int, int] = {}
    widths: dict[int, int] = {}
    for name, shape in shapes.items():
        found = re.search(r"vision_tower\.stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.weight$", name)
        if found:
            stage, block = int(found[1]), int(found[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
            widths[stage] = shape[0]
    if not depths:
        return {}
    return {
        "depths": [depths[i] for i in sorted(depths)],
        "hidden_sizes": [widths[i] for i in sorted(widths)],
    }


def read_tensor_shapes(folder: str | os.PathLike[str]) -> dict[str, list[int]]:
    """Name -> shape of every tensor in a folder's safetensors files; reads headers only.

    Raises:
        ValueError: a file is damaged, or a pointer in place of one (Git LFS).
    """
    shapes: dict[str, list[int]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                shapes |= {name: list(file.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise ValueError(f"{path.name} is damaged or not downloaded: {error}") from error
    return shapes


class SplitInterleavedKeyValue(ConversionOps):
    """Fused rows (head, k|v, head_dim) to one tensor of keys and one of values.

    The layout is per key/value head first its keys, then its values: cutting the fused tensor in
    two halves would mix them up. One of several processes reads the rows of its own heads alone.
    """

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        config: PreTrainedConfig,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        fused = next(iter(input_dict.values()))
        fused = fused[0] if isinstance(fused, list) else fused
        both = fused.unflatten(0, (-1, 2, _head_dim(config)))
        keys, values = (both[:, i].flatten(0, 1).contiguous() for i in (0, 1))
        return dict(zip(target_patterns, (keys, values), strict=True))

    @property
    def reverse_op(self) -> ConversionOps:
        return FuseInterleavedKeyValue()


def _head_dim(config: PreTrainedConfig) -> int:
    text = config.get_text_config()
    return text.to_dict().get("head_dim") or text.hidden_size // text.num_attention_heads


class FuseInterleavedKeyValue(ConversionOps):
    """The reverse of `SplitInterleavedKeyValue`."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        config: PreTrainedConfig,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        parts = [input_dict[name] for name in source_patterns]
        halves = [part[0] if isinstance(part, list) else part for part in parts]
        both = torch.stack([half.unflatten(0, (-1, _head_dim(config))) for half in halves], dim=1)
        return {target_patterns[0]: both.flatten(0, 2).contiguous()}

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitInterleavedKeyValue()


def _official_weight_mapping() -> list[WeightRenaming | WeightConverter]:
    """Renamings apply in order, each with at most one group; backwards they undo themselves."""
    return [
        WeightRenaming("self_attn.cross_attn_gate_proj.0", "self_attn.cross_attn.gate.proj"),
        WeightRenaming("self_attn.cross_attn_warm_up_gate", "self_attn.cross_attn.gate.scale"),
        # A block's layer scale is `gamma` in timm and `weight` in the official module.
        WeightRenaming(
            r"^model.vision_tower.vision_tower.stages.(\d+.blocks.\d+).weight",
            r"^model.vision_tower.vision_tower.stages.\1.gamma",
        ),
        WeightRenaming("^model.vision_tower.vision_tower.", "^model.vision_tower."),
        WeightRenaming("^model.mm_projector.", "^model.multi_modal_projector."),
        WeightRenaming(r"^model.(embed_tokens|norm|layers).", r"^model.language_model.\1."),
        WeightConverter(
            "self_attn.cross_attn_kv_proj",
            ["self_attn.cross_attn.k_proj", "self_attn.cross_attn.v_proj"],
            operations=[SplitInterleavedKeyValue()],
        ),
    ]


def register_official_checkpoints() -> None:
    """Teach `from_pretrained` the official tensor names. Called once by `auto.py`."""
    register_checkpoint_conversion_mapping("slowfast", _official_weight_mapping(), overwrite=True)
