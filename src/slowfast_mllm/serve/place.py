"""Where a server is: its folder, which is its alone as long as it runs, as the limits of what is
kept there are one server's; and its address. Both are looked at before a model is loaded."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slowfast_mllm.video.names import short_name

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # not on this system: nothing is locked
    flock = None  # type: ignore[assignment]


@contextmanager
def held(place: Path, url: str) -> Iterator[None]:
    """A folder is this process's; it is made where it is not there.

    Args:
        url: by which the next one is told who has it.

    Raises:
        ValueError: another server has it, or it cannot be written.
    """
    name = short_name(str(place))
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (place / "lock").open("a+")
    except OSError as error:
        raise ValueError(
            f"{name}: cannot be written ({error.strerror}); name another folder with --data."
        ) from error
    with lock:
        try:
            if flock is not None:
                flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ValueError(
                f"{name}: used by another server ({lock.read() or 'it just begins'}); stop that, "
                "or name another folder with --data."
            ) from error
        lock.truncate(0)
        lock.write(f"{url}, process {os.getpid()}")
        lock.flush()
        yield


def refuse_taken(host: str, port: int) -> None:
    """Whether a server could listen.

    Raises:
        ValueError: it cannot, and why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        cause = str(error.strerror).partition(" (")[0]
        raise ValueError(
            f"{host}:{port}: cannot be listened at ({cause}); choose another --port or --host."
        ) from error
