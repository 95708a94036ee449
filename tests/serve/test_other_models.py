"""Models of other families behind the same API: in turn, about several videos where they can."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import CLIP, serving

from slowfast_mllm import load

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

QUESTION = "What happens?"
FEW = {"num_frames": 2}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("other") / "qwen2_vl"
    return load(tiny_checkpoints.write("qwen2_vl", folder), device="cpu")


@pytest.fixture(scope="module")
def http(other: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        serving(other, tmp_path_factory.mktemp("served"), decoders=1) as (url, _),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client


def ask(http: httpx.Client, *messages: dict[str, Any], **more: Any) -> Any:
    body = {"messages": messages, "max_tokens": 6, "mm_processor_kwargs": FEW, **more}
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def turn(words: str, *videos: str) -> dict[str, Any]:
    parts = [{"type": "video_url", "video_url": {"url": name}} for name in videos]
    return {"role": "user", "content": [*parts, {"type": "text", "text": words}]}


def test_answers_are_those_of_the_library(other, http) -> None:
    name = upload(http, CLIP)
    chat = other.chat(CLIP, **FEW)
    first, second = (chat.ask(words, max_new_tokens=6).text for words in (QUESTION, "And then?"))
    asked = (turn(QUESTION, name), {"role": "assistant", "content": first}, turn("And then?"))
    answer = ask(http, asked[0])
    assert said(answer) == first
    assert answer.json()["usage"]["prompt_tokens"] > 0
    assert said(ask(http, *asked)) == second
    events = ask(http, asked[0], stream=True).text
    assert events.count("data: ") > 3
    assert events.endswith("data: [DONE]\n\n")


def test_one_question_is_about_two_videos(other, http) -> None:
    one, two = upload(http, CLIP), upload(http, CLIP.with_name("photos.mp4"))
    seen = other.encode_together([CLIP, CLIP.with_name("photos.mp4")], **FEW)
    alone = other.ask(seen, QUESTION, max_new_tokens=6).text
    answer = ask(http, turn(QUESTION, one, two))
    assert said(answer) == alone
    assert len(answer.json()["slowfast"]["frames"]["indices"]) == 4


def said(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def upload(http: httpx.Client, path: Path) -> str:
    return str(http.post("/v1/files", files={"file": path.read_bytes()}).json()["id"])
