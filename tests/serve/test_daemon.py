"""A server in the background: begun, asked, and gone without a trace."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import CLIP

from slowfast_mllm.serve.place import held, refuse_taken

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux")


def test_a_server_in_the_background_is_found_again_and_ended(tmp_path: Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        busy = slowfast(home, "serve", "--daemon", "--port", port)
    assert busy[0] == 1
    assert "something else listens there" in busy[1]
    code, told = slowfast(home, "serve", "--daemon", "--port", port, "--device", "cpu")
    assert code == 0, told
    pid = int(told.split("process ")[1].split(";")[0])
    try:
        assert f"http://127.0.0.1:{port}: serving" in told
        assert session(pid)
        code, again = slowfast(home, "serve", "--daemon", "--port", port)
        assert (code, f"stop --port {port}" in again) == (1, True)
        at = ("--server", f"127.0.0.1:{port}")
        code, answer = slowfast(home, "ask", str(CLIP), "Any cuts?", "--num-frames", "4", *at)
        assert code == 0, answer
    finally:
        code, told = slowfast(home, "stop")
    assert (code, told.endswith(f"stopped (process {pid}).\n")) == (0, True), told
    assert session(pid) == []
    code, told = slowfast(home, "stop")
    assert (code, told) == (1, "Error: no server runs in the background; nothing is stopped.\n")


def test_a_server_that_cannot_begin_says_why_and_is_not_left_behind(tmp_path: Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = str(bound.getsockname()[1])
    code, told = slowfast(home, "serve", "--daemon", "--port", port, "--model", "gone")
    assert (code, told.splitlines()[-1].startswith("Error: gone: no such folder")) == (1, True)
    assert slowfast(home, "stop", "--port", port)[0] == 1


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with held(tmp_path / "data", "http://127.0.0.1:1"):
        code, told = slowfast(home, "serve", "--port", "0", "--data", str(tmp_path / "data"))
    assert code == 1
    assert f"used by another server (http://127.0.0.1:1, process {os.getpid()})" in told
    assert told.count("\n") == 1
    with held(tmp_path / "data", "http://127.0.0.1:2"):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"{port}: cannot be listened at .Address already"):
            refuse_taken("127.0.0.1", port)
    with pytest.raises(ValueError, match="cannot be listened at"):
        refuse_taken("no.such.host.invalid", 0)


def slowfast(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """The exit code of the command, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "slowfast_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
    )
    return done.returncode, done.stdout


def session(pid: int) -> list[int]:
    """The processes that live in a session, those of a server and what it began."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
