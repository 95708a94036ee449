"""The front of several servers: who is asked, what clients are told when one dies, and the folder
that they share."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from serving import asking

from slowfast_mllm.serve.errors import ApiError
from slowfast_mllm.serve.files import Files
from slowfast_mllm.serve.front import create_front
from slowfast_mllm.serve.metrics import Metrics
from slowfast_mllm.serve.settings import Settings

GONE = ApiError(503, "the replica is gone; ask again", "replica_gone")


class Servers:
    """Stand for the servers: note what is asked, and answer with what is told beforehand."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.scope: dict[str, Any] = {}
        self.messages: list[dict[str, Any] | ApiError] = []
        self.told: list[tuple[str, bytes]] = []

    def answers(self, kind: str, *pieces: str, then: ApiError | None = None) -> None:
        headers = [(b"content-type", kind.encode()), (b"x-frame-options", b"DENY")]
        self.messages = [{"type": "http.response.start", "status": 200, "headers": headers}]
        body = {"type": "http.response.body", "more_body": True}
        self.messages += [{**body, "body": piece.encode()} for piece in pieces]
        self.messages.append(then or {**body, "more_body": False})

    async def answer(
        self, key: str, scope: dict[str, Any], body: bytes
    ) -> AsyncIterator[dict[str, Any]]:
        self.keys.append(key)
        self.scope = scope
        for message in self.messages:
            if isinstance(message, ApiError):
                raise message
            yield message

    async def all_told(self) -> list[tuple[str, bytes]]:
        return self.told


@pytest.fixture
def servers() -> Servers:
    found = Servers()
    found.answers("application/json", "{}")
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(place=tmp_path)


@pytest.fixture
def http(servers: Servers, settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_front(settings, servers.answer, servers.all_told)) as client:
        yield client


def test_one_videos_requests_have_one_key_whatever_they_are(
    http: TestClient, servers: Servers
) -> None:
    ids = [
        http.post("/v1/files", files={"file": (f"{n}.mp4", content)}).json()["id"]
        for n, content in enumerate((b"same", b"same", b"other"))
    ]
    http.post("/v1/chat/completions", json=asking("What is file-x?", ids[0]))
    http.post("/v1/chat/completions", json=asking("And now?", ids[1], stream=True))
    http.post("/v1/jobs/ground", json={"words": "a star", "video": ids[0]})
    http.post(f"/v1/videos/{ids[1]}/memory")
    assert len(set(servers.keys)) == 1
    servers.keys.clear()
    http.post("/v1/chat/completions", json=asking("?", ids[0]))
    http.post("/v1/chat/completions", json=asking("?", ids[2]))
    http.post("/v1/chat/completions", json=asking("?", "https://a.example/a.mp4"))
    http.post("/v1/chat/completions", json=asking("?", "data:video/mp4;base64,AAAA"))
    assert len(set(servers.keys)) == 4
    servers.keys.clear()
    http.get("/v1/models")
    http.post("/v1/chat/completions", content=b"{")
    http.post("/v1/chat/completions", content=b"[" * 100_000)
    http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert servers.keys == [""] * 4


def test_a_stream_that_breaks_off_ends_with_why(http: TestClient, servers: Servers) -> None:
    servers.answers("text/event-stream; charset=utf-8", "data: {}\n\n", then=GONE)
    first, error, done = http.get("/x").text.split("\n\n")[:3]
    assert (first, done) == ("data: {}", "data: [DONE]")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "replica_gone"


def test_what_breaks_before_it_begins_has_the_status_of_why(
    http: TestClient, servers: Servers
) -> None:
    servers.messages = [GONE]
    answer = http.get("/x")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "replica_gone"


def test_headers_of_safety_are_there_once_and_origins_stay_here(
    http: TestClient, servers: Servers
) -> None:
    answer = http.get("/x", headers={"Origin": "http://testserver"})
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert "origin" not in {name.decode() for name, _ in servers.scope["headers"]}
    assert http.get("/x", headers={"Origin": "http://a.example"}).status_code == 403


def test_ready_counts_servers_and_metrics_tell_them_apart(
    http: TestClient, servers: Servers
) -> None:
    assert http.get("/ready").status_code == 503
    metrics = Metrics()
    metrics.memories.labels("ram").inc()
    servers.told = [("a", generate_latest(metrics.registry)), ("b", b"")]
    assert http.get("/ready").json()["replicas"] == 2
    page = http.get("/metrics").text
    assert 'slowfast_memories_total{origin="ram",replica="a"} 1.0' in page
    assert page.count("# TYPE slowfast_memories_total counter") == 1


def test_servers_share_a_folder_of_files(settings: Settings, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"video"

    one, other = Files(settings), Files(settings)
    other.all_of("me")
    file = anyio.run(one.add, pieces(), "me", "a.mp4", "vision")
    assert other.get(file.id, "me") == file
    assert other.all_of("me") == [file]
    moved = tmp_path / "elsewhere"
    moved.symlink_to(tmp_path)
    assert Files(Settings(place=moved)).get(file.id, "me").path.startswith(str(moved))
    other.delete(file.id, "me")
    with pytest.raises(ApiError, match="no such file"):
        one.get(file.id, "me")
    assert one.all_of("me") == []


def test_a_new_server_leaves_what_others_write_and_clears_what_is_left(settings: Settings) -> None:
    folder = Files(settings).folder
    now, left = folder / "now.partial", folder / "left.partial"
    now.touch()
    left.touch()
    os.utime(left, (1, 1))
    Files(settings)
    assert now.exists()
    assert not left.exists()
