"""Configurations: the whole model (`SlowFastConfig`), its vision tower (`SlowFastVisionConfig`).

Decoder language models and vision models of transformers can be named in `text_config` and
`vision_config`. Reading the configuration of an official checkpoint is in `official_checkpoint.py`.
"""

import os
from typing import Any, ClassVar, Literal

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from slowfast_mllm.model.adapters import suggest_lora_targets
from slowfast_mllm.model.shim import MODEL_AUTO_MAP, register_nothing, write_shim


class SlowFastVisionConfig(PreTrainedConfig):
    """A ConvNeXt trunk with timm's parameter names; the defaults are ConvNeXt-XXL at 576 pixels.

    Attributes:
        image_size: height and width of a frame in pixels.
        num_channels: input channels; 3 for RGB, 5 when `SlowFastConfig.motion_features` is set.
        depths: blocks per stage.
        hidden_sizes: channels per stage, same length as `depths`.
        layer_norm_eps: epsilon of every LayerNorm.
        layer_scale_init: initial value of the per-channel layer scale.
    """

    model_type = "slowfast_convnext"
    base_config_key = "vision_config"

    image_size: int = 576
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (3, 4, 30, 3)
    hidden_sizes: list[int] | tuple[int, ...] = (384, 768, 1536, 3072)
    layer_norm_eps: float = 1e-5
    layer_scale_init: float = 1e-6
    initializer_range: float = 0.02

    @property
    def hidden_size(self) -> int:
        """Channels of the output map."""
        return self.hidden_sizes[-1]

    @property
    def patch_size(self) -> int:
        """Pixels per cell of the output map: the stem divides by 4, every later stage by 2."""
        return 2 ** (len(self.depths) + 1)


class SlowFastConfig(PreTrainedConfig):
    """Configuration of a Slow-Fast video language model.

    Attributes:
        text_config: a decoder-only language model of transformers whose layers attend by heads
            (Qwen2, Qwen3, Llama, Mistral, ...; others are refused).
        vision_config: `SlowFastVisionConfig`, or a vision model of transformers that makes one
            token per patch (CLIP, SigLIP, DINOv2).
        object_config: `NanoDetConfig` with `given="objects"`: what it finds and follows becomes
            further tokens of every frame; the vision tower then sees the frames shrunk to its own
            `image_size`. None, as in published checkpoints: no such tokens.
        hybrid_layers: indices of the decoder layers with gated cross-attention to slow tokens.
        slow_spatial_pool: average pooling of each video frame's map, before slow and fast split.
        fast_frame_stride: of the frames, every how many-th feeds the fast tokens.
        fast_temporal_pool: average pooling over time of the fast tokens.
        fast_spatial_pool: further average pooling over space of the fast tokens.
        min_fast_frames: temporal pooling never leaves fewer frames than this (if there are any).
        gate_activation: "tanh" or "none", around the token-dependent part of the gate.
        gate_scale: how the learned scalar multiplies the gate: "tanh", "linear" or "none".
        cross_attending_tokens: which positions attend the slow tokens: "text", "text_after_video"
            (text after the row's first visual token), or "all" (the fast tokens too).
        slow_attention_for_generated_tokens: whether tokens made by `generate` attend the slow
            tokens as the prompt's do (the official `generate()` behaves as if this were False).
        motion_features: show motion to the tower as two more input channels (the luminance change
            to the previous and the next frame) and, with `visual_position_encoding`, to the
            language model as a coarse optical flow in each token. Published checkpoints: False.
        visual_position_encoding: add an embedding of (time in seconds, row, column) to every
            visual token. Published checkpoints: False.
        vision_chunk_frames: frames encoded at once; bounds memory, never changes a result.
        projector_depth: linear layers of the projector, GELU between them.
        num_frames: of each video in training, a processor's default; None: not known.
        image_token_id, video_token_id: placeholders in `input_ids`; may lie outside the embedding
            table (then what transformers computes from the prompt's ids, as prompt lookup does,
            cannot be used).
        answer_without_vision: ids of the tokens that `generate` answers with where a prompt holds
            neither video nor image: for models that know nothing but what they see, and would
            invent it. None: the language model answers.
    """

    model_type = "slowfast"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen2"),
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type=SlowFastVisionConfig.model_type
        ),
    }

    text_config: Any = None  # a PreTrainedConfig once constructed
    vision_config: Any = None
    object_config: Any = None  # a PreTrainedConfig, or None
    hybrid_layers: list[int] | tuple[int, ...] = (0, 8, 16, 24)
    slow_spatial_pool: int = 2
    fast_frame_stride: int = 1
    fast_temporal_pool: int = 4
    fast_spatial_pool: int = 1
    min_fast_frames: int = 16
    gate_activation: Literal["tanh", "none"] = "tanh"
    gate_scale: Literal["tanh", "linear", "none"] = "tanh"
    cross_attending_tokens: Literal["text", "text_after_video", "all"] = "text"
    slow_attention_for_generated_tokens: bool = True
    motion_features: bool = False
    visual_position_encoding: bool = False
    vision_chunk_frames: int = 32
    projector_depth: int = 2
    num_frames: int | None = None
    image_token_id: int = 151646
    video_token_id: int = 151647
    answer_without_vision: list[int] | None = None
    tie_word_embeddings: bool = False

    register_for_auto_class: ClassVar[Any] = classmethod(register_nothing)

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.auto_map = dict(MODEL_AUTO_MAP)  # never what a file says
        if isinstance(self.object_config, dict):
            self.object_config = AutoConfig.for_model(**self.object_config)
        if self.object_config is not None:
            self.object_config.dtype = None  # that of the whole, not of the folder it came from
        self.hybrid_layers = sorted(int(i) for i in self.hybrid_layers)
        self._check()

    def to_dict(self) -> dict[str, Any]:
        """As in transformers. peft calls it to look the model type up among its defaults."""
        suggest_lora_targets(self.model_type)
        return super().to_dict()

    @property
    def frame_size(self) -> int:
        """Height and width of the frames that the model is given, in pixels."""
        return (self.object_config or self.vision_config).image_size

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """As in transformers, with a file that names the package beside it."""
        super().save_pretrained(save_directory, **kwargs)
        write_shim(save_directory)

    def _check(self) -> None:
        num_layers = self.text_config.num_hidden_layers
        outside = [i for i in self.hybrid_layers if not 0 <= i < num_layers]
        if outside:
            raise ValueError(
                f"hybrid_layers {outside} do not exist: the language model has layers "
                f"0..{num_layers - 1}; set hybrid_layers to indices among these."
            )
        for name in ("slow_spatial_pool", "fast_frame_stride", "fast_temporal_pool",
                     "fast_spatial_pool", "min_fast_frames", "vision_chunk_frames"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("hidden_size", "image_size", "patch_size", "num_channels"):
            if not hasattr(self.vision_config, name):
                raise ValueError(
                    f"vision_config: {self.vision_config.model_type!r} has no {name}; use a tower "
                    "with one token per patch, e.g. clip_vision_model or siglip_vision_model."
                )
        channels = self.vision_config.num_channels
        if self.motion_features and channels != 5:
            raise ValueError(
                f"motion_features=True needs vision_config.num_channels=5, got {channels}."
            )
