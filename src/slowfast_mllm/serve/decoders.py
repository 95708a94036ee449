"""Processes that decode videos, and may die of one: the request fails, and another takes its place.

They are forked from a process that has loaded what they need and done nothing else, so that a new
one is there at once and the server's threads and memory are no part of it.
"""

import contextlib
import json
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import numpy as np

from slowfast_mllm.serve.decoding import Limits, answer_requests
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings
from slowfast_mllm.video import SampledVideo, VideoError, VideoInfo, read_video
from slowfast_mllm.video.names import is_named, short_name

_LOADED = ["slowfast_mllm.serve.decoding", "slowfast_mllm.processing.pixels"]


@dataclass
class Look:
    """A look at a video that is under way.

    Attributes:
        read: share of it that was read, 0 to 1; None: nothing is read now, what was is looked at by
            the model, or it waits for its turn.
    """

    read: float | None = None


class _Decoder:
    """One process and the line to it."""

    def __init__(self, limits: Limits) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_LOADED)
        self.line, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(
            target=answer_requests, args=(theirs, limits), name="slowfast-decoder", daemon=True
        )
        self.process.start()
        theirs.close()

    def end(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.join()
        self.process.close()


class Decoders:
    """As many processes as there are threads that read. Its methods block; call them there."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.seconds = settings.decode_seconds
        self.metrics = metrics
        self._limits = Limits(settings.max_seconds, settings.max_pixels, settings.decode_memory)
        self._look = threading.local()
        self._idle: queue.SimpleQueue[_Decoder | None] = queue.SimpleQueue()
        for _ in range(settings.decoders):
            self._idle.put(_Decoder(self._limits))
        self._count = settings.decoders

    def pids(self) -> list[int]:
        """Of the processes that wait for work."""
        waiting = [self._idle.get() for _ in range(self._idle.qsize())]
        for decoder in waiting:
            self._idle.put(decoder)
        return [decoder.process.pid or 0 for decoder in waiting if decoder is not None]

    def close(self) -> None:
        """End all processes, after what they do now."""
        for _ in range(self._count):
            decoder = self._idle.get()
            if decoder is not None:
                decoder.end()

    @contextlib.contextmanager
    def telling(self, look: Look) -> Iterator[None]:
        """What is read in this thread meanwhile is told to a look."""
        self._look.now = look
        try:
            yield
        finally:
            self._look.now = None

    def examine(self, source: str, clip: bool = False) -> None:
        """Whether a video may be decoded at all, by what it says of itself.

        Raises:
            VideoError: it cannot be opened, or is longer or larger than the operator allows.
        """
        self._asked("examine", {"source": source, "clip": clip})

    def read_video(self, source: Any, **arguments: Any) -> SampledVideo:
        """As `slowfast_mllm.video.read_video`; frames that are there already are read here."""
        if not is_named(source):
            return read_video(source, **arguments)
        look = getattr(self._look, "now", None)
        if look is not None:
            look.read = 0.0
        told, frames = self._asked("read", {"source": source, **arguments})
        if look is not None:
            look.read = None
        return SampledVideo(
            frames=np.frombuffer(frames, np.uint8).reshape(told["shape"]),
            timestamps=np.array(told["timestamps"], np.float64),
            frame_indices=np.array(told["frame_indices"], np.int64),
            info=VideoInfo.from_dict(told["info"]),
        )

    def probe_video(self, source: Any, **arguments: Any) -> VideoInfo:
        """As `slowfast_mllm.video.probe_video`, of a path."""
        return VideoInfo.from_dict(self._asked("probe", {"source": source, **arguments})[0]["info"])

    def measure(self, job: str, source: str, **arguments: Any) -> dict[str, Any]:
        """The result of `cuts` or `facts` as JSON."""
        asked = {"job": job, "source": source, **arguments}
        result: dict[str, Any] = self._asked("measure", asked)[0]["result"]
        return result

    def _asked(self, work: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        decoder = self._taken()
        good = False
        name = short_name(str(arguments["source"]))
        try:
            decoder.line.send((work, arguments))
            told = self._told(decoder.line, name)
            frames = _frames(decoder.line, told)
            good = True
        except (EOFError, OSError) as error:
            raise VideoError(
                f"{name}: the process that decoded it ended; it may take too much memory, or be "
                "damaged: convert it to mp4, or make it smaller"
            ) from error
        finally:
            self._back(decoder, good)
        if "refused" in told:
            raise VideoError(told["refused"])
        if "failed" in told:
            raise RuntimeError(f"decoding failed: {told['failed']}")
        return told, frames

    def _told(self, line: Connection, name: str) -> dict[str, Any]:
        """What a process answers, after how far it is."""
        until = time.monotonic() + self.seconds
        look = getattr(self._look, "now", None)
        while line.poll(max(0.0, until - time.monotonic())):
            told: dict[str, Any] = json.loads(line.recv_bytes())
            if "share" not in told:
                return told
            if look is not None:
                look.read = told["share"]
        raise VideoError(
            f"{name}: not decoded within {self.seconds:g} s; make it shorter or smaller"
        )

    def _taken(self) -> _Decoder:
        """One that is free; in place of one that died while nobody needed it, another."""
        decoder = self._idle.get()
        if decoder is not None and not decoder.process.is_alive():
            self.metrics.decoders_lost.inc()
            decoder.end()
            decoder = None
        try:
            return decoder or _Decoder(self._limits)
        except BaseException:
            self._idle.put(None)
            raise

    def _back(self, decoder: _Decoder, good: bool) -> None:
        if good:
            self._idle.put(decoder)
            return
        self.metrics.decoders_lost.inc()
        self._idle.put(None)  # the next who needs one makes it
        with contextlib.suppress(OSError, ValueError):
            decoder.end()


def _frames(line: Connection, told: dict[str, Any]) -> bytearray:
    """The bytes of frames that follow an answer; none follow most."""
    frames = bytearray(int(np.prod(told.get("shape", [0]))))
    if frames:
        line.recv_bytes_into(frames)
    return frames
