"""A server in the background: begun, found again and ended.

Each has a file, by its port, which it holds locked as long as it lives: whether it runs is seen by
the lock, whatever became of the file's process number.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import typer

from slowfast_cli.loading import cache_folder, working
from slowfast_cli.terminal import say

_READY, _END = 900.0, 60.0  # seconds to load a model, and to finish what runs
_LEAVE = 5.0  # seconds in which what it began sees that it has gone
_LOOK = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Daemon:
    """A server that runs in the background; `file` is its lock."""

    file: Path
    port: int
    pid: int
    url: str


def start(arguments: list[str], host: str, port: int) -> None:
    """Run `slowfast serve` in the background, and come back when it answers.

    Args:
        arguments: of `serve`.
        host, port: where it will listen.

    Raises:
        ValueError: something listens there already.
        RuntimeError: it ended before it could answer.
    """
    if port == 0:
        raise typer.BadParameter("--daemon: give a --port, by which it is found again.")
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"
    file = _folder() / f"{port}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as held:
        if not _lock(held):
            raise ValueError(
                f"a server runs at port {port} already; `slowfast stop --port {port}` ends it."
            )
        with suppress(OSError):
            socket.create_connection((here, port), 1).close()
            raise ValueError(f"{url}: something else listens there; choose another --port.")
        log = file.with_suffix(".log")
        with log.open("w") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "slowfast_cli", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
                pass_fds=(held.fileno(),),
            )
        held.truncate(0)
        held.write(json.dumps({"pid": process.pid, "url": url}))
        held.flush()
        try:
            with working("Loading the model"):
                _wait_until_ready(process, url, log)
        except BaseException:  # Ctrl-C among them: nothing stays behind
            _kill(process.pid)
            process.wait()
            file.unlink(missing_ok=True)
            raise
    say(f"{url}: serving (process {process.pid}; log: {log}). `slowfast stop` ends it.")


def running() -> Iterator[Daemon]:
    """The servers in the background, by port."""
    for file in sorted(_folder().glob("*.json")):
        with suppress(OSError, ValueError, KeyError), file.open("r+") as held:
            if _lock(held):
                file.unlink()  # it has ended
            else:
                facts = json.load(held)
                yield Daemon(file, int(file.stem), int(facts["pid"]), str(facts["url"]))


def stop(daemon: Daemon) -> None:
    """End a server: it finishes what it is answering, for a minute at most."""
    os.kill(daemon.pid, signal.SIGTERM)
    with working("Waiting for the last answers"):
        ended = _ends(daemon, _END)
    deadline = time.monotonic() + _LEAVE
    while ended and time.monotonic() < deadline and _is_there(daemon.pid):
        time.sleep(_LOOK)
    _kill(daemon.pid)
    _ends(daemon, _END)
    daemon.file.unlink(missing_ok=True)
    how = "stopped" if ended else f"did not end in {_END:g} s and was killed"
    say(f"{daemon.url}: {how} (process {daemon.pid}).")


def _folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise ValueError("there is no home to note a server in; set XDG_CACHE_HOME to a folder.")
    return folder / "serving"


def _lock(file: IO[Any]) -> bool:
    """Whether nobody held it; it is held from now on, until all who have it open are gone."""
    try:
        import fcntl
    except ImportError as error:
        raise typer.BadParameter(
            "--daemon: not on this system; let its service manager run `slowfast serve`."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ends(daemon: Daemon, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with daemon.file.open("r+") as held:
            if _lock(held):
                return True
        time.sleep(_LOOK)
    return False


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").split("\n")
            told = [line.removeprefix("Error: ") for line in lines if line.strip()]
            raise RuntimeError(told[-1] if told else f"it ended by itself ({process.returncode}).")
        with suppress(OSError):
            try:
                urlopen(f"{url}/ready", timeout=_LOOK * 100).close()
                return
            except HTTPError as error:  # not yet, in the server's words
                error.close()
        time.sleep(_LOOK)
    raise RuntimeError(f"it was not ready in {_READY:g} s; {log} says what it did.")


def _is_there(group: int) -> bool:
    """Whether a server, or anything that it began, is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _kill(group: int) -> None:
    """A server and all that it began."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
