"""Which weights quantizing leaves alone, unless its configuration says otherwise."""

import copy
from typing import Any

from transformers.quantizers import AutoQuantizationConfig

# Of these little is gained and much is lost: what every token of every frame goes through once, the
# gates' single numbers, and the words themselves.
NOT_QUANTIZED = [
    r"(model\.)?(?!(model|language_model)\.)\w+",  # all beside the language model
    r".*\.cross_attn",
    "lm_head",
]
_FIELDS = ("llm_int8_skip_modules", "modules_to_not_convert")  # bitsandbytes' name, and others'


def sparing(config: Any) -> Any:
    """A quantization config (or a dict of one) that quantizes the language model's layers alone.

    One that names modules to be left alone stays as it is.
    """
    config = AutoQuantizationConfig.from_dict(config) if isinstance(config, dict) else config
    config = copy.copy(config)
    for name in _FIELDS:
        if hasattr(config, name) and getattr(config, name) is None:
            setattr(config, name, list(NOT_QUANTIZED))
    return config
