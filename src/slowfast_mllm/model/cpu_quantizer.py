"""Weights of 8 or 4 bits for CPUs, made as a checkpoint is read, or read as they were saved.

What transformers asks of a quantization: its configuration, which config.json keeps, and which
layers it replaces before weights are loaded. One weight is whole at a time.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import (
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from slowfast_mllm.model.cpu_linear import (
    BLOCKS,
    NarrowLinear,
    narrow_linears,
    narrow_linears_installed,
    quantized,
    sample_of,
)

METHOD = "slowfast_cpu"


class CpuWeightsConfig(QuantizationConfigMixin):
    """Of a model whose linear layers are `NarrowLinear`.

    Args:
        bits: 8 or 4.
        blocks: of how many numbers blocks may be (`cpu_linear.BLOCKS`).
    """

    def __init__(
        self, bits: Literal[8, 4] = 8, blocks: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        if bits not in (8, 4) or tuple(blocks or BLOCKS) != BLOCKS:
            raise ValueError(
                f"weights of {bits} bits in blocks of {blocks}: of another version; convert the "
                "checkpoint again"
            )
        self.quant_method = METHOD
        self.bits, self.blocks = bits, list(BLOCKS)


class CpuWeightsQuantizer(HfQuantizer):
    """Replaces the language model's linear layers, and the head, before weights are loaded.

    A head whose weight is the embedding's is made narrow afterwards, and saved beside that: every
    token of an answer reads all of a head, but one row of an embedding.
    """

    quantization_config: CpuWeightsConfig
    is_trainable = False
    serialized_names = {"weight": ["weight", "scales", "sample"]}

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        if not narrow_linears_installed():
            raise ImportError("needs onnxruntime; `pip install 'slowfast-mllm[cpu]'`")

    def is_serializable(self) -> bool:
        return True

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        narrow_linears(model.get_decoder(), self.quantization_config.bits)
        if self.pre_quantized or not model.all_tied_weights_keys:
            narrow_head(model, self.quantization_config.bits)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> None:
        narrow_head(model, self.quantization_config.bits)

    def param_needs_quantization(
        self, model: PreTrainedModel, param_name: str, **kwargs: Any
    ) -> bool:
        owner, _, name = param_name.rpartition(".")
        return name == "weight" and isinstance(model.get_submodule(owner), NarrowLinear)

    def get_quantize_ops(self) -> ConversionOps:
        return _Quantize(self.quantization_config.bits)


class _Quantize(ConversionOps):
    def __init__(self, bits: int) -> None:
        self.bits = bits

    def convert(
        self, input_dict: dict[str, Any], *, model: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        result = {}
        for name, weight in input_dict.items():
            weight = weight[0] if isinstance(weight, list) else weight
            scales = name.removesuffix("weight") + "scales"
            result[name], result[scales] = quantized(weight, self.bits)
            if model.get_submodule(name.rpartition(".")[0]).sample is not None:
                result[name.removesuffix("weight") + "sample"] = sample_of(weight)
        return result


def narrow_model(model: Any, bits: int) -> None:
    """Quantize the language model's linear layers and the head of a model that is loaded."""
    narrow_linears(model.get_decoder(), bits)
    narrow_head(model, bits)


def narrow_head(model: Any, bits: int) -> None:
    """Quantize what words are chosen by; it is no longer the embedding's weight."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        model.set_output_embeddings(NarrowLinear(head, bits, is_head=True))
        model.all_tied_weights_keys = {}


def register_cpu_weights() -> None:
    """Teach `from_pretrained` these weights. Called once by `auto.py`."""
    if METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantization_config(METHOD)(CpuWeightsConfig)
        register_quantizer(METHOD)(CpuWeightsQuantizer)
