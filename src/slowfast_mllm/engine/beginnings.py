"""What the language model has read of a video for its first question, kept for all later ones.

A prompt is the same up to the end of the video, whatever is asked: fast tokens come before the
question and see nothing of it. So a second question costs, until its first token, the question
alone.
"""

import copy
import weakref

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from slowfast_mllm.model import VideoMemory
from slowfast_mllm.model.video_memory import TEXT


class Beginnings:
    """Of one model; each lives as long as the memory that it belongs to. Safe between threads."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[VideoMemory, tuple[list[int], DynamicCache]] = (
            weakref.WeakKeyDictionary()
        )

    def __len__(self) -> int:
        return len(self._kept)

    def cache(self, memory: VideoMemory, ids: Tensor) -> DynamicCache | None:
        """A cache that holds the beginning of a prompt (1, L), to go on with; None: not kept."""
        beginning, cache = self._kept.get(memory, ([], None))
        if cache is None or beginning != ids[0, : len(beginning)].tolist():
            return None
        return _first_tokens(cache, len(beginning))

    def keep(self, memory: VideoMemory, ids: Tensor, types: Tensor, cache: Cache | None) -> None:
        """Of ids and token types (1, L) of a prompt, which `cache` holds, and maybe more."""
        # Layers of other kinds (with a window, of fixed size) may have dropped or overwritten it.
        if memory in self._kept or not isinstance(cache, DynamicCache) or cache.offloading:
            return
        if all(type(layer) is DynamicLayer for layer in cache.layers):
            length = int((types[0] != TEXT).nonzero().max()) + 1
            self._kept[memory] = ids[0, :length].tolist(), _first_tokens(cache, length)


def _first_tokens(cache: DynamicCache, length: int) -> DynamicCache:
    """Another cache; nothing is copied, for a layer that grows makes new tensors."""
    first = copy.copy(cache)
    first.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in first.layers:
        layer.keys, layer.values = (x[:, :, :length] for x in (layer.keys, layer.values))
    return first
