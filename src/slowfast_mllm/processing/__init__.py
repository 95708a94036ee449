"""The processor: videos, images and text to tensors, and prompts with the right placeholders."""

from slowfast_mllm.processing.processing_slowfast import SlowFastProcessor
from slowfast_mllm.processing.video_processing_slowfast import SlowFastVideoProcessor

__all__ = ["SlowFastProcessor", "SlowFastVideoProcessor"]
