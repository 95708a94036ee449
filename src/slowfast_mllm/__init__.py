"""Slow-Fast video multimodal LLM (arXiv 2504.01328): ask a video a question.

Importing the package teaches the Auto classes of transformers about Slow-Fast models. Its parts
are imported when they are first used: reading a video needs neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING, Any

from slowfast_mllm.registration import register_when_needed

if TYPE_CHECKING:
    from slowfast_mllm.engine import Answer, ModelError, SlowFast, load
    from slowfast_mllm.model import (
        SlowFastConfig,
        SlowFastForConditionalGeneration,
        SlowFastModel,
        VideoMemory,
    )
    from slowfast_mllm.processing import SlowFastProcessor
    from slowfast_mllm.video import VideoError, read_video

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "ModelError",
    "SlowFast",
    "SlowFastConfig",
    "SlowFastForConditionalGeneration",
    "SlowFastModel",
    "SlowFastProcessor",
    "VideoError",
    "VideoMemory",
    "load",
    "read_video",
]

_HOMES = {
    "engine": {"Answer", "ModelError", "SlowFast", "load"},
    "model": {
        "SlowFastConfig",
        "SlowFastForConditionalGeneration",
        "SlowFastModel",
        "VideoMemory",
    },
    "processing": {"SlowFastProcessor"},
    "video": {"VideoError", "read_video"},
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name == home or name in names:
            module = importlib.import_module(f"{__name__}.{home}")
            return module if name == home else getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_HOMES})


register_when_needed()
