"""The engine: loads a model once, encodes videos once, answers questions."""

from slowfast_mllm.engine.assistant import (
    DESCRIBE,
    Answer,
    Chat,
    Generation,
    Sampling,
    SlowFast,
    load,
)
from slowfast_mllm.engine.encoded_video import EncodedVideo, MemoryFileError
from slowfast_mllm.engine.loading import (
    DEFAULT_MODEL_NAME,
    ModelError,
    convert_checkpoint,
    describe_config,
)
from slowfast_mllm.engine.memory_cache import MemoryCache

__all__ = [
    "DEFAULT_MODEL_NAME",
    "DESCRIBE",
    "Answer",
    "Chat",
    "EncodedVideo",
    "Generation",
    "MemoryCache",
    "MemoryFileError",
    "ModelError",
    "Sampling",
    "SlowFast",
    "convert_checkpoint",
    "describe_config",
    "load",
]
