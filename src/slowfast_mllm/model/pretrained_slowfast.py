"""How Slow-Fast models are initialised, loaded and saved, beside what transformers does.

What they compute is in `modeling_slowfast.py`.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig
from slowfast_mllm.model.cpu_linear import NarrowLinear
from slowfast_mllm.model.quantization import sparing
from slowfast_mllm.model.sharding import device_of
from slowfast_mllm.model.shim import register_nothing
from slowfast_mllm.model.slow_attention import Gate
from slowfast_mllm.model.transformers_names import CACHE, HAS_ACTIVATION_CHECKPOINTING


class SlowFastPreTrainedModel(PreTrainedModel):
    """What the base model and the head share with transformers."""

    config: SlowFastConfig
    config_class = SlowFastConfig
    base_model_prefix = "model"
    input_modalities = ("video", "image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvNextBlock"]
    # Official files carry the tower's unused classification head.
    _keys_to_ignore_on_load_unexpected = [r"vision_tower\.(vision_tower\.)?head\."]
    _skip_keys_device_placement = [CACHE, "video_memory"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    register_for_auto_class: Any = classmethod(register_nothing)

    @property
    def device(self) -> torch.device:
        """Where inputs go: that of the first weights, or where they are brought from the disk."""
        place = device_of(self)
        return super().device if place is None else place

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """As in transformers, and gates that no checkpoint brought start closed.

        What hangs in the language model is initialised by its family's rules, which know no gates.
        """
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, Gate) and module.scale_kind != "none":
                init.zeros_(module.scale)

    @classmethod
    def from_pretrained(cls, *args: Any, quantization_config: Any = None, **kwargs: Any) -> Any:
        """As in transformers; quantizes the language model's layers alone unless told otherwise."""
        if quantization_config is not None:
            kwargs["quantization_config"] = sparing(quantization_config)
        return super().from_pretrained(*args, **kwargs)

    def save_pretrained(
        self, *args: Any, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """Write the native layout; `save_original_format=True` writes the official one.

        Raises:
            ValueError: narrow weights of a CPU were laid out for products, which no file holds.
        """
        if any(isinstance(module, NarrowLinear) and module.is_ready for module in self.modules()):
            raise ValueError(
                "a model that was quantized for the CPU is not saved once it is used; "
                "`slowfast convert MODEL DIR --quantize int8` writes one."
            )
        super().save_pretrained(*args, save_original_format=save_original_format, **kwargs)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """As in transformers, but never reentrant, whatever is asked for.

        Every hybrid layer reads slow keys and values that come from one projector, and gets them by
        keyword: reentrant checkpointing would walk that shared graph once per layer and fail.
        """
        options = {**(activation_checkpointing_kwargs or {}), "use_reentrant": False}
        if HAS_ACTIVATION_CHECKPOINTING:
            super().activation_checkpointing_enable(options, **kwargs)
        else:
            super().gradient_checkpointing_enable(options, **kwargs)

    if not HAS_ACTIVATION_CHECKPOINTING:  # what trainers call there

        def gradient_checkpointing_enable(
            self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
        ) -> None:
            """By its older name."""
            self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)
