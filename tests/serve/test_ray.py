"""The server on Ray Serve: two replicas on this machine, one of which dies while it answers."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve")

import httpx
import ray
from ray import serve
from serving import CLIP, asking

from slowfast_mllm.serve.ray import Arguments, app, check_version

CHAT = "/v1/chat/completions"
QUESTION = "What happens in the video?"
# Words at random do not end soon.
LONG = {"stream": True, "temperature": 2, "seed": 1, "max_tokens": 1500}
WAITING = 4  # in each of two replicas, and before them
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        place = tmp_path_factory.mktemp("shared")
        config = place / "limits.toml"
        config.write_text(f"max_waiting = {WAITING}\n")
        how: dict[str, Any] = {"place": place, "config": config, "num_cpus": 0.5}
        serve.run(app(Arguments(**how, min_replicas=2, max_replicas=2)))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield client
    finally:
        serve.shutdown()
        ray.shutdown()


def uploaded(http: httpx.Client, number: int) -> str:
    """The id of a clip whose content no other number has."""
    box = b"\0\0\0\x0cfree" + number.to_bytes(4, "big")
    files = {"file": ("shapes.mp4", CLIP.read_bytes() + box, "video/mp4")}
    return str(http.post("/v1/files", files=files).json()["id"])


def looked(http: httpx.Client) -> dict[str, float]:
    """How often each replica made memories, or had one at hand."""
    counts: dict[str, float] = {}
    for line in http.get("/metrics").text.splitlines():
        if line.startswith("slowfast_memories_total{"):
            name = line.partition('replica="')[2].partition('"')[0]
            counts[name] = counts.get(name, 0) + float(line.split()[-1])
    return counts


def replica_of(http: httpx.Client, video: str) -> str:
    before = looked(http)
    http.post(CHAT, json=asking(QUESTION, video)).raise_for_status()
    after = looked(http)
    (name,) = [name for name in after if after[name] > before.get(name, 0)]
    return name


def kill(replica: str) -> None:
    actor = ray.get_actor(f"SERVE_REPLICA::default#Model#{replica}", namespace="serve")
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


def events(http: httpx.Client, video: str, at_first: Any = lambda: None) -> list[str]:
    """The data of a streamed answer; `at_first` is called after the first words."""
    found = []
    with http.stream("POST", CHAT, json=asking(QUESTION, video, **LONG)) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
                if len(found) == 3:
                    at_first()
    return found


def test_a_replica_dies_while_it_answers_and_the_others_go_on(http: httpx.Client) -> None:
    homes: dict[str, str] = {}
    number = 0
    while len(homes) < 2 and number < 20:
        video = uploaded(http, number)
        homes.setdefault(replica_of(http, video), video)
        number += 1
    (dying, victim), (_, other) = homes.items()
    assert replica_of(http, victim) == dying  # every time
    assert replica_of(http, uploaded(http, 0)) == dying  # however it is named
    answer = http.post(CHAT, json=asking(QUESTION, victim)).json()["choices"]

    with ThreadPoolExecutor() as threads:
        unharmed = threads.submit(events, http, other)
        broken = events(http, victim, lambda: kill(dying))
        assert broken[-1] == unharmed.result()[-1] == "[DONE]"
    error = json.loads(broken[-2])["error"]
    assert error["code"] == "replica_gone"
    assert error["type"] == "server_error"
    assert "\n" not in error["message"]
    assert not any("error" in json.loads(event) for event in unharmed.result()[:-1])

    assert http.get("/ready").status_code == 200  # one of them is
    again = http.post(CHAT, json=asking(QUESTION, victim))
    assert again.json()["choices"] == answer
    assert 'origin="disk"' in http.get("/metrics").text  # what the dead one saw is not lost
    until = time.monotonic() + 60
    while http.get("/ready").json() != {"status": "ready", "replicas": 2}:
        assert time.monotonic() < until
        time.sleep(1)


def test_who_hangs_up_frees_the_replica(http: httpx.Client) -> None:
    video = uploaded(http, 0)
    home = replica_of(http, video)
    with http.stream("POST", CHAT, json=asking(QUESTION, video, **LONG)) as answer:
        next(answer.iter_lines())
    until = time.monotonic() + 5  # all the words would take longer

    def busy() -> bool:
        page = http.get("/metrics").text.splitlines()
        (of_it,) = [
            li for li in page if li.startswith("slowfast_requests_in_house{") and home in li
        ]
        return not of_it.endswith(" 0.0")

    while busy():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_full_house_says_so_and_a_video_that_many_ask_about_is_answered_by_others_too(
    http: httpx.Client,
) -> None:
    video = uploaded(http, 0)
    before = looked(http)
    body = asking(QUESTION, video, **{**LONG, "stream": False, "max_tokens": 200})
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: http.post(CHAT, json=body), range(24)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 2 * WAITING
    refused = answers[codes.index(429)]
    assert refused.json()["error"]["code"] == "busy"
    assert int(refused.headers["Retry-After"])
    after = looked(http)
    assert len(after) == 2
    assert all(after[name] > before.get(name, 0) for name in after)


def test_the_page_and_everything_else_are_answered_as_by_one_server(http: httpx.Client) -> None:
    assert "<html" in http.get("/").text
    assert http.get("/v1/models").json()["data"][0]["id"]
    assert "/v1/files" in http.get("/openapi.json").json()["paths"]
    assert http.put("/v1/files").status_code == 405
    assert http.get("/v1/nothing").status_code == 404
    assert http.post(CHAT, content=b"{").status_code == 400
    assert http.get("/v1/models", headers={"Origin": "http://a.example"}).status_code == 403
    assert http.get("/v1/models", headers={"Host": "a.example"}).status_code == 403


def test_a_worker_of_another_version_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"\Athis worker has slowfast-mllm .+ and .+ 0\.0; .+\Z"):
        check_version("0.0")


@pytest.mark.parametrize("given", [{"max_replicas": 1, "min_replicas": 2}, {"config": Path("no")}])
def test_settings_that_cannot_be_are_told_in_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\A.+\Z"):
        app(Arguments(place=Path("x"), **given))
