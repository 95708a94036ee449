"""What is small computes with one thread, and everybody else's threads stay as they were."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from slowfast_mllm import load
from slowfast_mllm.engine import Request, SlowFast
from slowfast_mllm.model.hardware import suitable_threads, threads_for

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_a_small_module_gets_one_thread_here_and_now() -> None:
    with suitable_threads(nn.Linear(2, 2)):
        assert torch.get_num_threads() == 1
        assert in_a_new_thread() == 2
        with suitable_threads(nn.Linear(2, 2)):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == in_a_new_thread() == 2


def test_an_error_leaves_the_threads_as_they_were() -> None:
    with pytest.raises(KeyError), suitable_threads(nn.Linear(2, 2)):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_large_modules_and_users_who_say_how_many_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        large = nn.Linear(5000, 5000)
    with suitable_threads(large):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with suitable_threads(nn.Linear(2, 2)):
        assert torch.get_num_threads() == threads_for(1) == 2


def test_the_packaged_model_looks_with_all_threads_and_answers_with_one() -> None:
    assistant = load(device="cpu")
    assert isinstance(assistant, SlowFast)
    counts: dict[str, set[int]] = {"tower": set(), "language": set()}
    model = assistant.model.model
    model.vision_tower.register_forward_hook(
        lambda *_: counts["tower"].add(torch.get_num_threads())
    )
    model.language_model.register_forward_hook(
        lambda *_: counts["language"].add(torch.get_num_threads())
    )
    seen = assistant.encode(CLIP, num_frames=1)
    assistant.ask(seen, "What happens?", max_new_tokens=1)
    assistant.likelihoods(seen, "What happens?", ["Yes."])
    list(assistant.generate([Request(seen, "What happens?", options={"max_new_tokens": 2})]))
    assert counts == {"tower": {2}, "language": {1}}
    assert torch.get_num_threads() == in_a_new_thread() == 2
