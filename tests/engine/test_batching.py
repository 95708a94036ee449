"""Many requests together: the same answers as alone; nobody waits for or suffers from others."""

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import LogitsProcessor

from slowfast_mllm import SlowFast, VideoError, load
from slowfast_mllm.engine import Batcher, Request

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
# Answers and prompts of very different lengths, about videos of different lengths.
QUESTIONS = [
    ("What happens in the video?", {"num_frames": 32}),
    ("How does the camera move?", {"num_frames": 5}),
    ("How many different objects appear in the course of the whole video?", {"num_frames": 12}),
    ("Is it?", {"num_frames": 32, "start": 1.0}),
    ("Describe what you see in one sentence.", {"num_frames": 8, "max_new_tokens": 6}),
]


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def alone(assistant: SlowFast) -> list[str]:
    return [assistant.ask(CLIP, question, **options).text for question, options in QUESTIONS]


def requests() -> list[Request]:
    return [Request(CLIP, question, options=options) for question, options in QUESTIONS]


@pytest.mark.parametrize("max_batch", [1, 2, 8])
def test_together_equals_alone(assistant, alone, max_batch: int) -> None:
    answers = list(assistant.generate(requests(), max_batch))
    assert [answer.text for answer in answers] == alone


def ban(token: int) -> LogitsProcessor:
    def without(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_fill(1, torch.tensor([token]), -torch.inf)

    return without


def test_stop_processors_and_scores_are_the_same_together_and_alone(assistant, alone) -> None:
    words = alone[0].split()
    stop = [" ".join(words[2:4]), words[4]]
    first = assistant.ask(CLIP, QUESTIONS[0][0], num_frames=32, return_scores=True).scores
    options = [
        {"stop": stop},
        {"stop": ["not said"], "return_scores": True},
        {"logits_processor": [ban(first[0].id)], "return_scores": True},
        {"stop": stop, "temperature": 0.7, "seed": 3, "return_scores": True, "max_new_tokens": 20},
    ]
    heard: list[list[str]] = [[] for _ in options]
    requests = [
        Request(CLIP, QUESTIONS[0][0], pieces.append, {"num_frames": 32, **more})
        for more, pieces in zip(options, heard, strict=True)
    ]
    together = list(assistant.generate(requests))
    for answer, more, pieces in zip(together, options, heard, strict=True):
        told: list[str] = []
        single = assistant.ask(CLIP, QUESTIONS[0][0], told.append, num_frames=32, **more)
        assert "".join(pieces).strip() == answer.text
        assert "".join(told).strip() == single.text
        if "temperature" in more:
            continue  # drawn from another stream of random numbers
        assert single.text == answer.text
        if "return_scores" in more:
            assert [s.text for s in single.scores] == [s.text for s in answer.scores]
            scores = torch.tensor([[s.log_probability for s in a.scores] for a in (single, answer)])
            torch.testing.assert_close(scores[0], scores[1], atol=1e-3, rtol=1e-3)
            assert (scores <= 0).all()
    assert together[0].text == alone[0].split(stop[0])[0].strip()
    assert together[0].scores is None
    assert together[1].text == alone[0]
    assert together[1].to_dict()["scores"][0]["text"] == first[0].text
    assert together[2].scores[0].id != first[0].id
    assert not any(end in together[3].text for end in stop)


def test_a_failing_request_fails_alone(assistant, alone) -> None:
    bad = [
        Request("no_such_file.mp4", "What happens?"),
        Request(CLIP, "  "),
        Request(CLIP, "What happens?", options={"max_tokens": 3}),
        Request(CLIP, "What happens?", options={"num_beams": 4}),
        Request(CLIP, "What happens?", options={"stop": "."}),
        Request(CLIP, "What happens?", options={"logits_processor": [lambda ids, scores: 1 / 0]}),
        Request(CLIP, "What happens?", on_text=lambda text: 1 / 0),
    ]
    good = requests() + requests()[-2:]
    mixed = [request for pair in zip(good, bad, strict=True) for request in pair]
    outcomes = list(assistant.generate(mixed))
    assert [answer.text for answer in outcomes[::2]] == alone + alone[-2:]
    expected = [VideoError, *[ValueError] * 4, *[ZeroDivisionError] * 2]
    assert [type(error) for error in outcomes[1::2]] == expected


def test_a_memory_that_does_not_fit_its_prompt_fails_alone(assistant, alone) -> None:
    video = assistant.encode(CLIP)
    broken = type(video)(**{**vars(video), "prompt": "<video>"})
    outcomes = list(assistant.generate([*requests(), Request(broken, "What happens?")]))
    assert isinstance(outcomes[-1], ValueError)
    assert [answer.text for answer in outcomes[:-1]] == alone


def test_with_every_rule_of_attending_together_equals_alone(assistant, monkeypatch) -> None:
    monkeypatch.setattr(assistant.model.config, "cross_attending_tokens", "text_after_video")
    expected = [assistant.ask(CLIP, question, **options).text for question, options in QUESTIONS]
    assert [answer.text for answer in assistant.generate(requests())] == expected


@pytest.mark.parametrize("attend", [True, False])
def test_a_placeholder_that_the_model_says_ends_no_batch(
    assistant, monkeypatch, attend: bool
) -> None:
    monkeypatch.setattr(assistant.model.config, "slow_attention_for_generated_tokens", attend)
    said = assistant.processor.video_token_id
    monkeypatch.setattr("slowfast_mllm.engine.batching._Sequence.next_id", lambda *_: said)
    asked = [Request(CLIP, q, options={"max_new_tokens": 3}) for q, _ in QUESTIONS[:2]]
    assert [a.timing["tokens"] for a in assistant.generate(asked)] == [3, 3]


def test_nobody_waits_for_a_batch_that_broke(assistant, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("slowfast_mllm.engine.batching.Batcher._arrivals", broken)
    (outcome,) = assistant.generate([requests()[1]])
    assert isinstance(outcome, MemoryError)


def endless(assistant: SlowFast, monkeypatch) -> None:
    """Let answers end at their longest only."""
    monkeypatch.setitem(assistant.__dict__, "end_ids", set())


def test_a_short_answer_does_not_wait_for_a_long_one(assistant, monkeypatch) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    with Batcher(assistant, max_batch=2) as batcher:
        begun = threading.Event()
        long = batcher.submit(
            Request(video, "What happens?", lambda text: begun.set(), {"max_new_tokens": 400})
        )
        assert begun.wait(60)
        short = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 2}))
        assert short.result(60).timing["tokens"] == 2
        assert not long.done()
        third = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 2}))
        assert third.result(60).timing["tokens"] == 2
        assert not long.done()
        long.cancel()
        with pytest.raises(CancelledError):
            long.result(60)


def test_an_answer_of_one_token_waits_for_no_place(assistant, monkeypatch) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    with Batcher(assistant, max_batch=1) as batcher:
        long = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 2000}))
        one = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 1}))
        assert one.result(60).timing["tokens"] == 1
        waiting = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 2000}))
        waiting.cancel()
        with pytest.raises(CancelledError):
            waiting.result(0)
        assert not long.done()
        long.cancel()


@pytest.mark.parametrize("where", ["join", "keep"])
def test_what_fails_while_sequences_come_and_go_fails_for_those_alone(
    assistant, monkeypatch, where: str
) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    with Batcher(assistant, max_batch=2) as batcher:
        with monkeypatch.context() as broken:
            name = f"slowfast_mllm.engine.batching._Batch.{where}"
            broken.setattr(name, lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
            short = Request(video, "?", options={"max_new_tokens": 3})
            begun = threading.Event()
            long = replace(short, options={"max_new_tokens": 400}, on_text=lambda _: begun.set())
            first = batcher.submit(long)
            assert begun.wait(60)  # else the short one may have come and gone before
            batcher.submit(short).outcome()
            assert isinstance(first.outcome(), torch.OutOfMemoryError)
        later = [batcher.submit(short) for _ in range(2)]
        assert [ticket.result(60).timing["tokens"] for ticket in later] == [3, 3]


def test_a_path_is_encoded_once_for_all_who_ask_meanwhile(assistant, monkeypatch) -> None:
    seen: list[object] = []
    encode = assistant.model.encode_video

    def counted(*arguments: object) -> object:
        seen.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(assistant.model, "encode_video", counted)
    requests = [Request(CLIP, q, options={"num_frames": 4}) for q in ("Any cuts?", "What?") * 3]
    requests[1] = replace(requests[1], video=CLIP.as_uri())
    texts = [str(answer) for answer in assistant.generate(requests)]
    assert len(seen) == 1
    assert texts == [str(assistant.ask(CLIP, r.question, num_frames=4)) for r in requests]


def test_a_path_that_is_another_file_by_now_is_encoded_again(
    assistant, monkeypatch, tmp_path
) -> None:
    endless(assistant, monkeypatch)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "latest.png")
    with Batcher(assistant) as batcher:
        long = batcher.submit(Request(tmp_path / "latest.png", "What?"))
        request = Request(tmp_path / "latest.png", "What?", options={"max_new_tokens": 1})
        assert batcher.submit(request).result(60).info.height == 64
        Image.new("RGB", (128, 32), "blue").save(tmp_path / "latest.png")
        assert batcher.submit(request).result(60).info.height == 32
        long.cancel()


def test_nothing_is_kept_of_what_was_answered(assistant) -> None:
    video = assistant.encode(CLIP, num_frames=4)
    kept = weakref.ref(video)
    with Batcher(assistant) as batcher:
        answer = batcher.submit(Request(video, "What happens?")).result(60)
        del video
        for _ in range(100):  # the batch's thread may still be on its way back to waiting
            gc.collect()
            if kept() is None:
                break
            threading.Event().wait(0.05)
        assert kept() is None
        assert answer.text


def test_cancelled_before_it_begins(assistant, monkeypatch) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    with Batcher(assistant, max_batch=1) as batcher:
        long = batcher.submit(Request(video, "What happens?", options={"max_new_tokens": 400}))
        waiting = batcher.submit(Request(video, "What happens?"))
        waiting.cancel()
        long.cancel()
        for ticket in (waiting, long):
            with pytest.raises(CancelledError):
                ticket.result(60)


def test_leaving_by_an_error_gives_everything_up(assistant, monkeypatch) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    request = Request(video, "What happens?", options={"max_new_tokens": 2000})
    tickets = []

    def interrupted() -> None:
        with Batcher(assistant, max_batch=1) as batcher:
            tickets.extend(batcher.submit(request) for _ in range(5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(isinstance(ticket.outcome(), CancelledError) for ticket in tickets)


def test_an_interrupt_while_waiting_gives_everything_up(assistant, monkeypatch) -> None:
    endless(assistant, monkeypatch)
    video = assistant.encode(CLIP, num_frames=4)
    request = Request(video, "What happens?", options={"max_new_tokens": 2000})
    finish, calls = Batcher._finish, []

    def interrupted(batcher: Batcher) -> None:
        calls.append(batcher)
        if len(calls) == 1:
            raise KeyboardInterrupt
        finish(batcher)

    monkeypatch.setattr(Batcher, "_finish", interrupted)
    tickets = []
    with pytest.raises(KeyboardInterrupt), Batcher(assistant, max_batch=1) as batcher:
        tickets.extend(batcher.submit(request) for _ in range(5))
    assert all(isinstance(ticket.outcome(), CancelledError) for ticket in tickets)
    assert not batcher._thread.is_alive()


@pytest.mark.parametrize("end", ["sys.exit(7)", "list(requests)"])
def test_a_program_that_ends_with_work_open_ends_as_it_says(end: str) -> None:
    program = f"""if True:
        import sys
        from slowfast_mllm import load
        from slowfast_mllm.engine import Batcher, Request
        model = load(device="cpu")
        video = model.encode({str(CLIP)!r}, num_frames=4)
        requests = [Request(video, "What happens?")] * 60
        answers = model.generate(requests, 2)
        print(next(answers))
        idle = Batcher(model)
        {end}
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=100)
    assert ended.returncode == (7 if "exit" in end else 0), ended.stderr
    assert b"terminate" not in ended.stderr
    assert ended.stdout


def test_drawn_answers_repeat_with_their_seed(assistant) -> None:
    options = {"temperature": 2, "top_p": 0.9, "seed": 3, "max_new_tokens": 12}
    drawn = [Request(CLIP, "What happens?", options={**options, "seed": s}) for s in (3, 4, 3, 5)]
    texts = [answer.text for answer in assistant.generate(drawn)]
    assert texts[0] == texts[2]
    assert len(set(texts)) > 1
    assert texts == [next(assistant.generate([request])).text for request in drawn]


def test_requests_are_taken_only_as_they_are_needed(assistant) -> None:
    video = assistant.encode(CLIP, num_frames=4)
    taken: list[int] = []

    def endless_requests():
        while True:
            taken.append(1)
            yield Request(video, "What happens?", options={"max_new_tokens": 1})

    answers = assistant.generate(endless_requests(), max_batch=2)
    for _ in range(20):
        assert next(answers).timing["tokens"] == 1
    assert len(taken) < 20 + 10
    answers.close()


def test_a_batch_leaves_the_number_of_threads_as_it_was(assistant: SlowFast) -> None:
    torch.set_num_threads(2)
    try:
        with Batcher(assistant):
            pass
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)
