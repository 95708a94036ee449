"""Videos and images by http(s) URL or as base64 text, as the processors of transformers take them.

The reader of videos itself never fetches anything; only the processor does.
"""

import base64
import http.client
import io
import os
import re
import time
import urllib.request
from typing import Any

from slowfast_mllm.video import VideoError
from slowfast_mllm.video.names import short_name

FAILURES = (OSError, ValueError, http.client.HTTPException)
_SILENCE = 20.0  # seconds without a sign of life
_PATIENCE = 600.0  # seconds in all
_LIMIT = 1 << 30  # bytes
_CHUNK = 1 << 20
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{256,}={0,2}\s*")  # a short text is the name of a file


class _Named(io.BytesIO):
    """What was fetched, with a name for messages about it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def at_hand(video: Any) -> Any:
    """A video, or a list of frames, with URLs and base64 text made files in memory; the rest as is.

    Raises:
        VideoError: a URL cannot be fetched, or text is no base64; one line that names it.
    """
    if isinstance(video, list | tuple):
        return [at_hand(frame) for frame in video]
    if not isinstance(video, str) or not (_is_url(video) or _is_base64(video)):
        return video
    name = short_name(video) if _is_url(video) else "<base64 text>"
    try:
        return _Named(fetched(video), name)
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not _is_url(video):
            raise VideoError(f"{name}: no base64 ({reason}); encode the file again") from error
        raise VideoError(
            f"{name}: cannot be fetched ({reason}); check the address, or download it and give its "
            "path"
        ) from error


def fetched(text: str) -> bytes:
    """The bytes behind a URL or in base64 text.

    Raises:
        OSError, ValueError, http.client.HTTPException: no answer, or no base64; or it is more than
            a GiB, or takes more than ten minutes.
    """
    if not _is_url(text):
        return base64.b64decode("".join(text.split()), validate=True)
    end = time.monotonic() + _PATIENCE
    data = bytearray()
    with urllib.request.urlopen(text, timeout=_SILENCE) as answer:
        while chunk := answer.read1(_CHUNK):
            data += chunk
            if len(data) > _LIMIT:
                raise ValueError(f"more than {_LIMIT >> 20} MiB")
            if time.monotonic() > end:
                raise ValueError(f"not done after {_PATIENCE:.0f} seconds")
    return bytes(data)


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _is_base64(text: str) -> bool:
    return _BASE64.fullmatch(text) is not None and not os.path.exists(text)
