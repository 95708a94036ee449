"""What was seen of videos, shared by all requests: known by content, however a video is named.

In RAM here, and on disk in the model's own cache. All methods belong to the event loop's thread.
"""

import asyncio
import json
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from slowfast_mllm.engine import Assistant
from slowfast_mllm.engine.encoded_video import AT_HAND
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.serve.decoders import Decoders, Look
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.sources import Source


class Memories:
    """Memories of videos; the one that was longest unused goes first."""

    def __init__(
        self,
        assistant: Assistant,
        decoders: Decoders,
        readers: ThreadPoolExecutor,
        limit: int,
        metrics: Metrics,
    ) -> None:
        """
        Args:
            readers: threads in which videos are read and encoded.
            limit: bytes that are held at most.
        """
        self.assistant = assistant
        self.decoders = decoders
        self.limit = limit
        self.metrics = metrics
        self._readers = readers
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._making: dict[str, asyncio.Task[Any]] = {}
        self._looks: dict[str, Look] = {}

    async def of(self, source: Source, sampling: dict[str, Any]) -> Any:
        """What the model saw of a video: remembered, or looked at now.

        Requests about the same that come meanwhile wait for one look.

        Raises:
            ValueError: it cannot be read.
        """
        key = f"{source.sha256} {json.dumps(sampling, sort_keys=True, default=str)}"
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            self.metrics.memories.labels("ram").inc()
            return _named(replace(kept, timing=AT_HAND), source)
        return _named(await self._made(key, source, sampling), source)

    def look(self, sha256: str) -> Look | None:
        """The look at a video that is under way, whoever asked for it; None: there is none."""
        ours = (look for key, look in self._looks.items() if key.startswith(sha256))
        return next(ours, None)

    async def _made(self, key: str, source: Source, sampling: dict[str, Any]) -> Any:
        """A look that another has begun may fail with him: his file is gone when he goes."""
        others = self._making.get(key)
        if others is not None:
            try:
                return replace(await asyncio.shield(others), timing=AT_HAND)
            except (ValueError, OSError, asyncio.CancelledError):
                if not others.done():
                    raise  # it is this request that was given up
        task = asyncio.ensure_future(self._make(key, source, sampling))
        self._making[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: str, task: "asyncio.Task[Any]") -> None:
        if self._making.get(key) is task:
            del self._making[key]
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may

    async def _make(self, key: str, source: Source, sampling: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        look = self._looks[key] = Look()

        def encode() -> Any:
            self.decoders.examine(source.path, bool(sampling.get("clip")))
            with self.decoders.telling(look):
                return self.assistant.encode(source.path, **sampling)

        try:
            seen = await loop.run_in_executor(self._readers, encode)
        finally:
            if self._looks.get(key) is look:
                del self._looks[key]
        timing = seen.timing
        known = not timing["encode"] and not timing["preprocess"]
        self.metrics.memories.labels("disk" if known else "encoded").inc()
        if not known:
            self.metrics.read.observe(timing["read"] + timing["preprocess"])
            self.metrics.encode.observe(timing["encode"])
        self._keep(key, seen)
        return seen

    def _keep(self, key: str, seen: Any) -> None:
        self._kept[key] = seen
        held = sum(map(self._size_of, self._kept.values()))
        while held > self.limit and self._kept:
            held -= self._size_of(self._kept.popitem(last=False)[1])
        self.metrics.held.set(held)

    def _size_of(self, seen: Any) -> int:
        """Bytes of tensors that a video is remembered by."""
        if isinstance(self.assistant, LoadedModel):
            return int(seen.memory.nbytes) + self.assistant.beginnings.nbytes(seen)
        return sum(tensor.nbytes for tensor in seen.inputs.values())


def _named(seen: Any, source: Source) -> Any:
    return replace(seen, info=replace(seen.info, path=source.name))
