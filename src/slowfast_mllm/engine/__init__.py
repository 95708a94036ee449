"""The engine: loads a model once, encodes videos once, answers questions."""

from slowfast_mllm.engine.assistant import (
    DESCRIBE,
    Answer,
    Chat,
    EncodedVideo,
    Generation,
    Sampling,
    SlowFast,
    load,
)
from slowfast_mllm.engine.loading import (
    DEFAULT_MODEL_NAME,
    ModelError,
    convert_checkpoint,
    describe_config,
)

__all__ = [
    "DEFAULT_MODEL_NAME",
    "DESCRIBE",
    "Answer",
    "Chat",
    "EncodedVideo",
    "Generation",
    "ModelError",
    "Sampling",
    "SlowFast",
    "convert_checkpoint",
    "describe_config",
    "load",
]
