"""What a decoding process does: opens and decodes videos that strangers sent, and nothing else.

It holds no keys, no model and no other request. What it gives back is numbers and JSON, never
anything that would be executed. It may be killed at any time.
"""

import json
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

from slowfast_mllm.video import VideoError, declared, probe_video, read_video
from slowfast_mllm.video.names import short_name
from slowfast_mllm.video.picture import UNCHANGED

_TELL = 0.2  # seconds between two words of how far reading is


@dataclass(frozen=True)
class Limits:
    """Of one video: seconds in all, pixels of a picture, and bytes that decoding it may take."""

    seconds: float
    pixels: int
    memory: int


def answer_requests(connection: Connection, limits: Limits) -> None:
    """The life of the process: until the server hangs up.

    A request is a name of `_WORK` and keyword arguments. An answer is JSON, and the bytes of frames
    behind it where there are some. Before that, reading tells which share of it is done.
    """
    sending = threading.Lock()

    def tell(share: float) -> None:
        with sending:
            connection.send_bytes(json.dumps({"share": share}).encode())

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to hear
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = limits.pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    while True:
        try:
            work, arguments = connection.recv()
        except (EOFError, OSError):
            return
        if work == "read":
            arguments["tell"] = tell
        answer, frames = _done(work, arguments, limits)
        try:
            connection.send_bytes(json.dumps(answer).encode())
            if frames is not None:
                connection.send_bytes(np.ascontiguousarray(frames).data.cast("B"))
        except OSError:
            return


def _done(
    work: str, arguments: dict[str, Any], limits: Limits
) -> tuple[dict[str, Any], np.ndarray | None]:
    try:
        return _WORK[work](limits, arguments)
    except MemoryError:
        name = short_name(str(arguments.get("source")))
        told = f"{name}: takes more memory than this server gives to one video; make it smaller"
        return {"refused": told}, None
    except ValueError as error:
        return {"refused": str(error)}, None
    except Exception as error:
        return {"failed": type(error).__name__}, None


def _examine(limits: Limits, arguments: dict[str, Any]) -> tuple[dict[str, Any], None]:
    seconds, pixels = declared(**arguments)
    _check(arguments["source"], seconds, pixels, limits)
    return {}, None


def _check(source: Any, seconds: float, pixels: int, limits: Limits) -> None:
    name = short_name(str(source))
    if seconds > limits.seconds:
        raise VideoError(
            f"{name}: {seconds:.0f} s long, and this server takes {limits.seconds:g} s at most; "
            "cut it"
        )
    if pixels > limits.pixels:
        raise VideoError(
            f"{name}: {pixels} pixels a picture, and this server takes {limits.pixels} at most; "
            "make it smaller"
        )


def _read(limits: Limits, arguments: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    tell = arguments.pop("tell")
    shrink = arguments.pop("transform", UNCHANGED)
    shrink = replace(shrink, apply=_Counted(shrink.apply, _expected(arguments), tell))
    video = read_video(**arguments, transform=shrink)
    _check(arguments["source"], video.info.duration, 0, limits)
    told = {
        "info": video.info.to_dict(),
        "shape": video.frames.shape,
        "timestamps": video.timestamps.tolist(),
        "frame_indices": video.frame_indices.tolist(),
    }
    return told, video.frames


def _expected(asked: dict[str, Any]) -> int:
    """How many frames will be read, roughly; 0 where that is not told beforehand."""
    given = {name: value for name, value in asked.items() if value is not None}
    if "num_frames" in given or "at" in given:
        return int(given.get("num_frames") or len(given["at"]))
    most = given.get("max_frames", 0)
    if "fps" not in given:
        return int(most)
    seconds, _ = declared(given["source"], clip=given.get("clip", False))
    seconds = min(given.get("end", seconds), seconds) - given.get("start", 0.0)
    return max(0, min(int(seconds * given["fps"]), most or int(seconds * given["fps"])))


class _Counted:
    """A function of pictures that tells how many of them it has seen, a few times a second; several
    threads call it."""

    def __init__(
        self, apply: Callable[[Any], Any], expected: int, tell: Callable[[float], None]
    ) -> None:
        self._apply, self._expected, self._tell = apply, expected, tell
        self._seen, self._told = 0, time.monotonic()

    def __call__(self, picture: Any) -> Any:
        self._seen += 1
        now = time.monotonic()
        if self._expected and now - self._told > _TELL:
            self._told = now
            self._tell(min(self._seen / self._expected, 1.0))
        return self._apply(picture)


def _probe(limits: Limits, arguments: dict[str, Any]) -> tuple[dict[str, Any], None]:
    return {"info": probe_video(**arguments).to_dict()}, None


def _measure(limits: Limits, arguments: dict[str, Any]) -> tuple[dict[str, Any], None]:
    from slowfast_mllm import tasks

    function = {"cuts": "find_cuts", "facts": "measure_facts"}[arguments.pop("job")]
    source = arguments.pop("source")
    return {"result": getattr(tasks, function)(source, **arguments).model_dump(mode="json")}, None


_WORK: dict[str, Callable[..., tuple[dict[str, Any], np.ndarray | None]]] = {
    "examine": _examine,
    "read": _read,
    "probe": _probe,
    "measure": _measure,
}
