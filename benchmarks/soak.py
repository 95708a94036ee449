"""Many clients at once, and much that goes wrong: does a server answer or refuse every request?

Clients ask whole and streamed questions, do jobs, upload, send broken files, misspelt fields and
questions of 100,000 words, hang up in the middle, and give up waiting; meanwhile decoding processes
are killed. Told are how requests ended, and what the server's processes held at four times: memory,
open files, processes. It fails where a request got neither an answer nor a reason, or where
something grew.

    python benchmarks/soak.py [--requests 2000] [--clients 16] [--seed 0]
"""

import argparse
import base64
import collections
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

CHAT = "/v1/chat/completions"
EXAMPLE = Path(__file__).parents[1] / "examples" / "shapes.mp4"
# Of the memory at half of the requests: caches fill until then.
_GROWTH = 1.15
_REASONS = {400, 403, 404, 408, 413, 429, 503, 504}


def small_clip(seed: int) -> bytes:
    """A second of a square that moves."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as place:
        with av.open(place.name, "w") as file:
            stream = file.add_stream("mpeg4", 8)
            stream.width = stream.height = 64
            for number in range(8):
                picture = np.full((64, 64, 3), seed * 37 % 256, np.uint8)
                picture[20:40, 4 * number : 4 * number + 20] = (220, seed * 91 % 256, 20)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            file.mux(stream.encode(None))
        return Path(place.name).read_bytes()


def asking(words: str, video: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    part = {"type": "video_url", "video_url": {"url": video}}
    content = [part, {"type": "text", "text": words}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 24, **more}


@dataclass
class Client:
    """One of them; `ends` counts how its requests ended."""

    http: httpx.Client
    random: random.Random
    clips: list[bytes]
    ends: "collections.Counter[str]"
    names: list[str] = field(default_factory=list)

    def one(self) -> None:
        """A request of some kind."""
        kinds = [self.ask, self.stream, self.upload, self.job, self.broken, self.wrong]
        kinds += [self.long, self.hang_up, self.give_up, self.inline, self.forget]
        kind = self.random.choices(kinds, [6, 5, 2, 3, 2, 2, 1, 2, 2, 2, 1])[0]
        try:
            kind()
        except httpx.TransportError as error:
            self.ends[f"{kind.__name__}: NO ANSWER ({type(error).__name__})"] += 1

    def end(self, kind: Callable[[], None], answer: httpx.Response) -> None:
        told = str(answer.status_code)
        if answer.status_code != 200:
            error = answer.json()["error"]
            good = answer.status_code in _REASONS and "\n" not in error["message"]
            told += f" {error['code']}" if good else f" WITHOUT REASON {error}"
        self.ends[f"{kind.__name__}: {told}"] += 1

    @property
    def video(self) -> str:
        if not self.names:
            self.upload()
        return self.random.choice(self.names) if self.names else "file-none"

    def post(self, kind: Callable[[], None], body: Any, path: str = CHAT) -> None:
        self.end(kind, self.http.post(path, json=body))

    def ask(self) -> None:
        self.post(self.ask, asking("What happens?", self.video))

    def stream(self) -> None:
        self.post(self.stream, asking("What happens in the video?", self.video, stream=True))

    def upload(self) -> None:
        files = {"file": ("clip.mp4", self.random.choice(self.clips))}
        answer = self.http.post("/v1/files", files=files)
        self.end(self.upload, answer)
        if answer.status_code == 200:
            self.names.append(answer.json()["id"])

    def forget(self) -> None:
        if self.names:
            name = self.names.pop(self.random.randrange(len(self.names)))
            self.end(self.forget, self.http.delete(f"/v1/files/{name}"))

    def job(self) -> None:
        job, more = self.random.choice(
            [
                ("score", {"what": "a red square"}),
                ("choose", {"question": "What is it?", "options": ["A square.", "A star."]}),
                ("describe", {"max_new_tokens": 8}),
                ("ground", {"words": "a square", "num_frames": 4}),
            ]
        )
        self.post(self.job, {"video": self.video, **more}, f"/v1/jobs/{job}")

    def broken(self) -> None:
        data = bytearray(self.random.choice(self.clips))
        if self.random.random() < 0.3:
            data = bytearray(self.random.randbytes(2000))
        for _ in range(self.random.randrange(40)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        del data[self.random.randrange(1, len(data)) :]
        self.post(self.broken, asking("What happens?", inline(bytes(data))))

    def wrong(self) -> None:
        body = self.random.choice(
            [
                {"messages": 3},
                asking("", self.video),
                asking("What?", self.video, unheard_of=1),
                asking("What?", "http://127.0.0.1/clip.mp4"),
                asking("What?", "file:///etc/hostname"),
                asking("What?", "file-nobody"),
                asking("What?", self.video, temperature=-1),
            ]
        )
        self.post(self.wrong, body)

    def long(self) -> None:
        self.post(self.long, asking("word " * 100_000, self.video))

    def inline(self) -> None:
        self.post(self.inline, asking("What happens?", inline(self.random.choice(self.clips))))

    def hang_up(self) -> None:
        body = asking("What happens in the video?", self.video, stream=True)
        with self.http.stream("POST", CHAT, json=body) as answer:
            for _ in zip(answer.iter_lines(), range(self.random.randrange(6)), strict=False):
                pass
        self.ends["hang_up: went"] += 1

    def give_up(self) -> None:
        body = asking("What happens in the video?", inline(self.random.choice(self.clips)))
        with suppress(httpx.TimeoutException):
            self.http.post(CHAT, json=body, timeout=self.random.uniform(0.01, 0.5))
        self.ends["give_up: went"] += 1


def inline(data: bytes) -> str:
    """A `data:` URL."""
    return "data:video/mp4;base64," + base64.b64encode(data).decode()


def tree(pid: int) -> list[int]:
    """A process and those that it began, and so on."""
    parents = collections.defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents[one]
    return found


def held(pid: int) -> dict[str, int]:
    """What the server's processes hold now."""
    pids = tree(pid)
    rss = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"server_mib": int(rss) // 1024, "files": files, "processes": len(pids)}


def soak(url: str, pid: int, count: int, clients: int, seed: int) -> dict[str, Any]:
    """Run it against a server on this machine, whose decoders are grandchildren of `pid`."""
    clips = [small_clip(n) for n in range(6)] + [EXAMPLE.read_bytes()]
    ends: collections.Counter[str] = collections.Counter()
    left, lock, snapshots = count, threading.Lock(), [held(pid)]

    def work(number: int) -> None:
        nonlocal left
        with httpx.Client(base_url=url, timeout=600) as http:
            client = Client(http, random.Random(seed * 1000 + number), clips, ends)
            while True:
                with lock:
                    if left == 0:
                        return
                    left -= 1
                    if left % (count // 4) == 0:
                        snapshots.append(held(pid))
                client.one()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    killed, rng = 0, random.Random(seed)
    while any(thread.is_alive() for thread in threads):
        time.sleep(rng.uniform(0.5, 3.0))
        heads = [pid, *(p for p in tree(pid) if parent(p) == pid)]  # these begin decoders
        decoders = [p for p in tree(pid) if p not in heads]
        if decoders:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(decoders), signal.SIGKILL)
                killed += 1
    after = httpx.post(f"{url}{CHAT}", json=asking("What happens?", inline(clips[0])), timeout=600)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "requests": count,
        "ends": dict(sorted(ends.items())),
        "killed": killed,
        "answers_afterwards": after.status_code == 200,
        "held": [*snapshots, held(pid)],
        "problems": problems(ends, snapshots, held(pid), after.status_code),
    }


def parent(pid: int) -> int:
    """The process that began it; 0: it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def problems(
    ends: "collections.Counter[str]",
    snapshots: list[dict[str, int]],
    last: dict[str, int],
    code: int,
) -> list[str]:
    """What must not be; empty: all is well."""
    found = [end for end in ends if "NO ANSWER" in end or "WITHOUT REASON" in end]
    if code != 200:
        found.append(f"afterwards it answers {code}")
    middle = snapshots[len(snapshots) // 2]
    if last["server_mib"] > middle["server_mib"] * _GROWTH + 64:
        found.append(f"memory grew from {middle['server_mib']} to {last['server_mib']} MiB")
    if last["files"] > middle["files"] + 8:
        found.append(f"open files grew from {middle['files']} to {last['files']}")
    if last["processes"] > max(s["processes"] for s in snapshots) + 1:
        found.append(f"{last['processes']} processes are left")
    return found


@contextmanager
def server(*more: str) -> Any:
    """`slowfast serve` in a folder of its own: its address and process.

    Args:
        more: words of its command line.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        words = ["serve", "--port", str(port), "--data", place, *more]
        process = subprocess.Popen([sys.executable, "-m", "slowfast_cli", *words])
        try:
            url = f"http://127.0.0.1:{port}"
            while process.poll() is None:
                try:
                    if httpx.get(f"{url}/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with server() as (url, pid):
        report = soak(url, pid, options.requests, options.clients, options.seed)
    print(json.dumps(report, indent=2))
    sys.exit(1 if report["problems"] else 0)


if __name__ == "__main__":
    main()
