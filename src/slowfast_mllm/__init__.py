"""Slow-Fast video multimodal LLM (arXiv 2504.01328): ask a video a question.

Importing the package teaches the Auto classes of transformers about Slow-Fast models.
"""

from slowfast_mllm.auto import register
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

register()
