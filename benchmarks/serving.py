"""What a server's running batch gives beside the same model behind `generate()`, one at a time.

Clients ask streamed questions about clips that were looked at before, each as soon as its last one
is answered, for so many seconds. Told are answers and tokens a second, and seconds to the first
token and to the last: median, 95th and 99th percentile. The baseline is the same model in this
process, without HTTP, whose `generate()` answers one client after the other. Models: the packaged
one, and with --half-billion a random one of the dimensions of Qwen2-0.5B and the published vision
tower.

    python benchmarks/serving.py [--clients 1 4 16] [--seconds 30] [--half-billion]
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from asking import half_billion
from soak import CHAT, EXAMPLE, asking, server

from slowfast_mllm import load

QUESTIONS = (
    "What happens in the video?",
    "How does the camera move?",
    "How many different objects appear in the course of the whole video?",
    "Describe what you see in one sentence.",
)
_TOKENS = 48
# Asks a question: gives seconds to the first piece, seconds in all, and tokens.
Ask = Callable[[str, int], tuple[float, float, int]]


def over_http(url: str, http: httpx.Client, clip: str, frames: int) -> Ask:
    """By the server."""

    def ask(question: str, number: int) -> tuple[float, float, int]:
        body = asking(question, clip, stream=True, stream_options={"include_usage": True})
        body |= {"max_tokens": _TOKENS, "mm_processor_kwargs": {"num_frames": frames}}
        began, first, tokens = time.perf_counter(), 0.0, 0
        with http.stream("POST", url + CHAT, json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - began
                if chunk.get("usage"):
                    tokens = chunk["usage"]["completion_tokens"]
        took = time.perf_counter() - began
        return first or took, took, tokens

    return ask


def one_at_a_time(assistant: Any, video: Any) -> Ask:
    """By `generate()` of transformers, for one client after the other."""
    lock = threading.Lock()

    def ask(question: str, number: int) -> tuple[float, float, int]:
        began = time.perf_counter()
        first: list[float] = []

        def on_text(text: str) -> None:
            if not first:
                first.append(time.perf_counter() - began)

        with lock:
            answer = assistant.ask(video, question, on_text, max_new_tokens=_TOKENS)
        took = time.perf_counter() - began
        return (first or [took])[0], took, int(answer.timing["tokens"])

    return ask


def measured(ask: Ask, clients: int, seconds: float) -> dict[str, Any]:
    """Of so many clients, for so long."""
    told: list[tuple[float, float, int]] = []
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        turn = number
        while time.perf_counter() < end:
            told.append(ask(QUESTIONS[turn % len(QUESTIONS)], number))
            turn += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    first, last, tokens = map(np.array, zip(*told, strict=True))
    return {
        "answers_per_second": round(len(told) / took, 3),
        "tokens_per_second": round(float(tokens.sum()) / took, 2),
        "first_token": [round(float(q), 3) for q in np.quantile(first, [0.5, 0.95, 0.99])],
        "answer": [round(float(q), 3) for q in np.quantile(last, [0.5, 0.95, 0.99])],
    }


def compared(model: str | None, frames: int, clients: list[int], seconds: float) -> dict[str, Any]:
    """Server and baseline, one after the other, with each number of clients."""
    words = [] if model is None else ["--model", model]
    found: dict[str, Any] = {}
    with server(*words) as (url, _), httpx.Client(timeout=1200) as http:
        files = {"file": ("clip.mp4", EXAMPLE.read_bytes())}
        clip = http.post(f"{url}/v1/files", files=files).json()["id"]
        ask = over_http(url, http, clip, frames)
        for question in QUESTIONS:
            ask(question, 0)
        for count in clients:
            found[f"server, {count}"] = measured(ask, count, seconds)
    assistant = load(model, device=None)
    video = assistant.encode(EXAMPLE, num_frames=frames)
    ask = one_at_a_time(assistant, video)
    for question in QUESTIONS:
        ask(question, 0)
    for count in clients:
        found[f"one at a time, {count}"] = measured(ask, count, seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--half-billion", action="store_true")
    options = parser.parse_args()
    how = options.clients, options.seconds
    report = {"packaged": compared(None, 32, *how)}
    if options.half_billion:
        with tempfile.TemporaryDirectory() as folder:
            made = half_billion(Path(folder))
            report["0.5B"] = compared(str(made), 2, *how)
    print(json.dumps({"threads": torch.get_num_threads(), **report}, indent=2))


if __name__ == "__main__":
    main()
