"""What sources are called: local paths, `file:` and `data:` URIs, and their names in messages.

Nothing is opened here and nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Any, TypeGuard
from urllib.parse import unquote_to_bytes

from slowfast_mllm.video.result import VideoError

_LONGEST = 100  # characters of what was given that a message repeats
_LONG_WORD = re.compile(r"\S{101,}")
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[^,;]{1,100}){0,9},", re.IGNORECASE)
_FILE = re.compile(r"file:/", re.IGNORECASE)


def is_utf8(text: str) -> bool:
    """Whether it is text that can be written: a half character (a lone surrogate) cannot."""
    return text == text.encode(errors="replace").decode()


def printable(text: str) -> str:
    """The name on one line, with what cannot be printed escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def short_name(text: str) -> str:
    """What messages call a source: printable, at most 100 characters, `data:` by kind and size."""
    if is_data_uri(text):
        kind = text[: text.index(",")].partition(";")[0].lower()
        return f"{shortened(kind)} ({_size(len(text) * 3 // 4)})"
    return shortened(printable(shortened(text)))


def shortened(text: str) -> str:
    """Text of more than 100 characters without its middle."""
    end = _LONGEST - 43
    return text if len(text) <= _LONGEST else f"{text[:40]}...{text[-end:]}"


def brief(text: str) -> str:
    """Text in which words of more than 100 characters have lost their middle."""
    return _LONG_WORD.sub(lambda word: shortened(word[0]), text)


def _size(count: int) -> str:
    for unit in ("bytes", "KB"):
        if count < 1000:
            return f"{count} {unit}"
        count = round(count / 1000)
    return f"{count} MB"


def is_data_uri(source: Any) -> TypeGuard[str]:
    """Whether it is text that holds a file itself, `data:video/mp4;base64,...`."""
    return isinstance(source, str) and _DATA.match(source) is not None


def localized(source: Any) -> Any:
    """The path that a `file:` URI stands for, percent-decoded; anything else as it is.

    Raises:
        VideoError: The URI is of another machine.
    """
    if not isinstance(source, str) or not _FILE.match(source):
        return source
    path = source[len("file:") :]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise VideoError(
                f"{short_name(source)}: a file of another machine ({shortened(host)}); only local "
                "files are read, for example file:///home/me/clip.mp4"
            )
        path = slash + path
    return os.fsdecode(unquote_to_bytes(path.encode(errors="surrogateescape")))


def is_named(source: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it is the name of a file or folder, after `localized`, and no data itself."""
    return isinstance(source, str | os.PathLike) and not is_data_uri(source)


def data_of(uri: str) -> list[bytes]:
    """The files that a `data:` URI holds: one, or frames with a comma between them.

    Raises:
        VideoError: It is not base64.
    """
    head, _, text = uri.partition(",")
    name = short_name(uri)
    if not head.lower().endswith(";base64"):
        raise VideoError(f"{name}: data that is not base64; write data:video/mp4;base64,...")
    try:
        return [_decoded(part) for part in text.split(",")]
    except (binascii.Error, ValueError) as error:
        raise VideoError(f"{name}: not valid base64 ({error}); encode the file again") from error


def _decoded(text: str) -> bytes:
    """As browsers do: spaces mean nothing, and the padding at the end may be left out."""
    data = unquote_to_bytes(text) if "%" in text else text.encode("ascii")
    data = b"".join(data.split())
    return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
