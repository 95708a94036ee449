"""The engine: loads a model once, encodes videos once, answers questions."""

from slowfast_mllm.engine.answers import Answer, Generation, Likelihood, Sampling, TokenScore
from slowfast_mllm.engine.assistant import SlowFast, load
from slowfast_mllm.engine.batching import Batcher, Request, Ticket
from slowfast_mllm.engine.chat import Chat
from slowfast_mllm.engine.encoded_video import EncodedVideo, MemoryFileError
from slowfast_mllm.engine.evidence import Evidence, EvidenceSpan, FrameEvidence
from slowfast_mllm.engine.export import export_model
from slowfast_mllm.engine.loading import (
    DEFAULT_MODEL_NAME,
    ModelError,
    convert_checkpoint,
    describe_config,
)
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.engine.protocol import Assistant, Capabilities, Encoded
from slowfast_mllm.engine.structured import constrained
from slowfast_mllm.engine.transformers_model import TransformersModel
from slowfast_mllm.questions import DESCRIBE

__all__ = [
    "DEFAULT_MODEL_NAME",
    "DESCRIBE",
    "Answer",
    "Assistant",
    "Batcher",
    "Capabilities",
    "Chat",
    "Encoded",
    "EncodedVideo",
    "Evidence",
    "EvidenceSpan",
    "FrameEvidence",
    "Generation",
    "Likelihood",
    "MemoryCache",
    "MemoryFileError",
    "ModelError",
    "Request",
    "Sampling",
    "SlowFast",
    "Ticket",
    "TokenScore",
    "TransformersModel",
    "constrained",
    "convert_checkpoint",
    "describe_config",
    "export_model",
    "load",
]
