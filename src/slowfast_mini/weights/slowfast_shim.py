"""A Slow-Fast model: needs the package slowfast-mllm (pip install slowfast-mllm)."""

from slowfast_mllm import (
    SlowFastConfig,
    SlowFastForConditionalGeneration,
    SlowFastModel,
    SlowFastProcessor,
)
from slowfast_mllm.auto import register

__all__ = [
    "SlowFastConfig",
    "SlowFastForConditionalGeneration",
    "SlowFastModel",
    "SlowFastProcessor",
]

register()
