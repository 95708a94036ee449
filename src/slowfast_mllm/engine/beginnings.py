"""What the language model has read of a video for one question, kept for all later ones.

A prompt is the same up to the end of the video, whatever is asked: fast tokens come before the
question and see nothing of it. So a second question costs, until its first token, the question
alone.
"""

import copy
import weakref
from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from slowfast_mllm.engine.encoded_video import AT_HAND, EncodedVideo
from slowfast_mllm.model import VideoMemory
from slowfast_mllm.model.video_memory import TEXT


class Beginnings:
    """Of one model; each lives as long as the memory that it belongs to. Safe between threads.

    A copy in another process begins without any.

    Attributes:
        usual: (T, N) what a question that asks for nothing in particular reads of a video's slow
            tokens, N a frame, where somebody wanted to know (`reading`).
    """

    def __init__(self, text_config: PreTrainedConfig) -> None:
        self._text_config = text_config
        self._kept: weakref.WeakKeyDictionary[VideoMemory, tuple[list[int], DynamicCache]] = (
            weakref.WeakKeyDictionary()
        )
        self.usual: weakref.WeakKeyDictionary[VideoMemory, Tensor] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return Beginnings, (self._text_config,)

    def __len__(self) -> int:
        return len(self._kept)

    def nbytes(self, video: EncodedVideo) -> int:
        """Bytes of what is kept of a video."""
        _, cache = self._kept.get(video.memory, ([], None))
        layers = [] if cache is None else cache.layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def cache(self, video: EncodedVideo, ids: Tensor) -> DynamicCache | None:
        """A cache that holds the beginning of a prompt (1, L), to go on with; None: not kept."""
        beginning, cache = self._kept.get(video.memory, ([], None))
        length = len(beginning)
        if cache is None or length >= ids.shape[1] or beginning != ids[0, :length].tolist():
            return None
        return branch(cache)

    def keep(self, video: EncodedVideo, ids: Tensor, types: Tensor, cache: Cache | None) -> None:
        """Of ids and token types (1, L) of a prompt, which `cache` holds, and maybe more.

        Not of a video that was encoded for this question: there may never be another.
        """
        if video.timing != AT_HAND or video.memory in self._kept:
            return
        # There the length of the first question would choose the factors for all others.
        if "longrope" in str(getattr(self._text_config, "rope_parameters", None)):
            return
        length = int((types[0] != TEXT).nonzero().max()) + 1
        beginning = up_to(cache, length)
        if beginning is None:
            return
        for layer in beginning.layers:  # the rest, an answer of any length, is not held with them
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
        self._kept[video.memory] = ids[0, :length].tolist(), beginning


def branch(cache: DynamicCache) -> DynamicCache:
    """A cache to go on with that leaves `cache` as it is; no copy, for a layer that grows makes new
    tensors."""
    return _with_layers(cache, [copy.copy(layer) for layer in cache.layers])


def up_to(cache: Cache | None, length: int) -> DynamicCache | None:
    """What a cache holds of the first tokens, to go on with, as `branch`; None: it cannot tell."""
    # Layers of other kinds (with a window, of fixed size) may have dropped or overwritten it.
    if not isinstance(cache, DynamicCache) or cache.offloading or cache.get_seq_length() < length:
        return None
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    beginning = branch(cache)
    for layer in beginning.layers:
        layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]
    return beginning


def _with_layers(cache: DynamicCache, layers: list[Any]) -> DynamicCache:
    other = copy.copy(cache)
    other.layers = layers
    return other
