"""A server with the packaged model, for all tests of it."""

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx
from serving import CLIP, serving

from slowfast_mllm import SlowFast, load


@pytest.fixture(scope="session")
def assistant() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="session")
def url(assistant: SlowFast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"names": ("127.0.0.1",), "examples": CLIP.parent}
    with serving(assistant, tmp_path_factory.mktemp("served"), **settings) as (address, _):
        yield address


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def uploaded(http: httpx.Client) -> str:
    """The id of a clip."""
    with CLIP.open("rb") as clip:
        answer = http.post("/v1/files", files={"file": ("shapes.mp4", clip, "video/mp4")})
    return str(answer.json()["id"])
