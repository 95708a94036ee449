"""The model: configuration, attention interface, memory, reading of official checkpoints."""

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig, SlowFastVisionConfig
from slowfast_mllm.model.convnext import SlowFastConvNextModel
from slowfast_mllm.model.modeling_slowfast import SlowFastForConditionalGeneration, SlowFastModel
from slowfast_mllm.model.video_memory import VideoMemory

__all__ = [
    "SlowFastConfig",
    "SlowFastConvNextModel",
    "SlowFastForConditionalGeneration",
    "SlowFastModel",
    "SlowFastVisionConfig",
    "VideoMemory",
]
