"""The engine: loads a model once, encodes videos once, answers questions.

Its parts are imported when they are first used: what was seen before is asked without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slowfast_mllm.engine.answer import Answer, Likelihood, Sampling, TokenScore
    from slowfast_mllm.engine.answers import Generation
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

_HOMES = {
    "answer": ("Answer", "Likelihood", "Sampling", "TokenScore"),
    "answers": ("Generation",),
    "assistant": ("SlowFast", "load"),
    "batching": ("Batcher", "Request", "Ticket"),
    "chat": ("Chat",),
    "encoded_video": ("EncodedVideo", "MemoryFileError"),
    "evidence": ("Evidence", "EvidenceSpan", "FrameEvidence"),
    "export": ("export_model",),
    "loading": ("DEFAULT_MODEL_NAME", "ModelError", "convert_checkpoint", "describe_config"),
    "memory_cache": ("MemoryCache",),
    "protocol": ("Assistant", "Capabilities", "Encoded"),
    "structured": ("constrained",),
    "transformers_model": ("TransformersModel",),
}

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


def __getattr__(name: str) -> Any:
    if name == "DESCRIBE":
        from slowfast_mllm.questions import DESCRIBE

        return DESCRIBE
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
