"""What an operator decides: limits, places, and what may be fetched."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from slowfast_mllm.video.names import short_name

MIB = 1 << 20
# What a browser may call a server that asks for no keys: pages of other names are kept from it.
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """How a server behaves. Sizes are bytes, times seconds.

    Attributes:
        place: folder of uploaded files, of files that are being looked at, and of memories.
        keys: file of the keys (see `keys`); None: whoever reaches the server may ask.
        hosts: from which videos may be fetched by http(s) URL, as `videos.example.com`.
        folders: from which videos may be named by `file://` URL.
        names: under which the server may be called; empty: under any.
        origins: of web pages elsewhere that may ask (CORS), as `https://example.com`.
        examples: folder of videos that the page offers to everybody.
        max_upload: of an uploaded file, of a `data:` URL, and of what is fetched.
        max_body: of any other request.
        upload_hours: after which an uploaded file is forgotten, unless its owner says less.
        max_stored: of all uploaded files.
        max_seconds, max_pixels: of a video; the latter in one picture.
        max_frames: that are looked at for one question.
        max_question: characters of all messages of a request.
        max_tokens: of one answer.
        max_choices: answers to one request (`n`).
        max_batch: answers that are written together.
        max_waiting: requests that are in the house; a further one is sent away.
        deadline: for a request, from its arrival.
        body_seconds: in which a client must send each piece of a body.
        decoders: processes that decode videos.
        decode_seconds, decode_memory: for one video, in such a process.
        memory, memory_on_disk: for what was seen of videos.
    """

    place: Path
    keys: Path | None = None
    hosts: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    examples: Path | None = None
    max_upload: int = 1024 * MIB
    max_body: int = 4 * MIB
    upload_hours: float = 72.0
    max_stored: int = 16 * 1024 * MIB
    max_seconds: float = 4 * 3600.0
    max_pixels: int = 8192 * 4352
    max_frames: int = 256
    max_question: int = 32_000
    max_tokens: int = 2048
    max_choices: int = 8
    max_batch: int = 16
    max_waiting: int = 64
    deadline: float = 300.0
    body_seconds: float = 30.0
    decoders: int = 2
    decode_seconds: float = 240.0
    decode_memory: int = 4096 * MIB
    memory: int = 2048 * MIB
    memory_on_disk: int = 8192 * MIB


def read_settings(path: Path) -> dict[str, Any]:
    """Fields of `Settings` from a TOML file.

    Raises:
        ValueError: it cannot be read, or something in it is not known or of another kind.
    """
    name = short_name(str(path))
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ValueError(f"{name}: cannot be read ({cause}); check --config.") from error
    known = {field.name: field for field in fields(Settings)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"{name}: {short_name(key)} is not known; known are {', '.join(known)}."
            )
        kind = known[key].type
        if not _is(kind, value):
            raise ValueError(f"{name}: {key} is of another kind; give {_called(kind)}.")
        if kind in (int, float) and value <= 0:
            raise ValueError(f"{name}: {key}={value}: give a number above 0.")
        as_path = Path if Path in (kind, *get_args(kind)) else str
        if get_origin(kind) is tuple:
            given[key] = tuple(map(as_path, value))
        elif isinstance(value, str):
            given[key] = as_path(value)
    return given


def _is(kind: Any, value: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind in (int, float):
        return isinstance(value, kind | int) and not isinstance(value, bool)
    return isinstance(value, str)


def _called(kind: Any) -> str:
    names = {int: "a whole number", float: "a number"}
    return names.get(kind, "a list of strings" if get_origin(kind) is tuple else "a string")
