"""Adapters of peft: folders of them, models that carry them, and what LoRA learns by default.

peft is imported only where there is an adapter.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn
from transformers.utils import find_adapter_config_file

# Every linear layer of the language model; not the slow path, whose keys belong to memories.
LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"


def suggest_lora_targets(model_type: str) -> None:
    """Tell peft, if the program uses it, what a `LoraConfig` without `target_modules` means."""
    constants = sys.modules.get("peft.utils.constants")
    if constants is not None:
        known = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        known.setdefault(model_type, LORA_TARGETS)


def base_of_adapter(path: str) -> str | None:
    """The checkpoint that an adapter was made for, as its files name it; None: no adapter.

    Args:
        path: folder or hub id.

    Raises:
        ValueError: it is damaged, or names none. One line, without the path.
    """
    if (Path(path) / "config.json").is_file():
        return None  # a whole checkpoint; what lies beside it is the matter of transformers
    file = find_adapter_config_file(path)
    if file is None:
        return None
    try:
        base = json.loads(Path(file).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"an adapter whose adapter_config.json is damaged ({error})") from error
    if not isinstance(base, str) or not base:
        raise ValueError(
            "an adapter that does not name its model; write the checkpoint's path into "
            "base_model_name_or_path in adapter_config.json"
        )
    beside = Path(path) / base
    return str(beside) if not Path(base).exists() and beside.exists() else base


def with_adapter(model: Any, path: str) -> Any:
    """A model with an adapter merged into its weights; beside them where they are quantized.

    Raises:
        ValueError: peft is not installed, the weights are missing, or the adapter is none of the
            layers.
        Exception: of peft's; it is damaged or was made for another model.
    """
    try:
        from peft import PeftModel
        from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
    except ImportError as error:
        raise ValueError("needs peft; `pip install peft`") from error
    files = (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)
    if os.path.isdir(path) and not any(os.path.isfile(os.path.join(path, f)) for f in files):
        # peft would go on and look for a hub's adapter of that name.
        raise ValueError(f"no {SAFETENSORS_WEIGHTS_NAME} in its folder")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        wrapped = PeftModel.from_pretrained(model, path)
    inside = without_wrapper(wrapped)
    return inside if getattr(model, "is_quantized", False) else wrapped.merge_and_unload()


def without_wrapper(model: Any) -> Any:
    """The model inside a `PeftModel`, with the adapters in its layers; any other as it is.

    Raises:
        ValueError: the adapter is none of the layers, but of prompts, which would be lost.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if model.active_peft_config.is_prompt_learning:
        kind = model.active_peft_config.peft_type.value
        raise ValueError(f"{kind} is an adapter of prompts; only those in layers, as LoRA, work")
    return model.get_base_model()


def adapters_in(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers with an adapter, and what of it is no weight: which is active, how strong."""
    layers = sys.modules.get("peft.tuners.tuners_utils")
    if layers is None:
        return
    for name, module in model.named_modules():
        if isinstance(module, layers.BaseTunerLayer):
            facts = vars(module)
            told = {key: facts.get(key) for key in ("scaling", "use_dora", "merged_adapters")}
            yield name, f"{module.active_adapters} {module.disable_adapters} {told}"
