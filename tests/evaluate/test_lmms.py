"""Examinations of lmms-eval without the harness: what is asked, what is shared, what is told."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from slowfast_cli.main import main
from slowfast_mllm import SlowFast, load
from slowfast_mllm.evaluate.lmms import FAILED, Examinee
from slowfast_mllm.evaluate.lmms_requests import (
    asked_in,
    chat_rounds,
    chat_talk,
    generation_of,
    simple_rounds,
    simple_talk,
    weighed,
)

QUESTIONS = ("What color is the square?", "Describe the video.")
GREEDY = {"until": ["\n\n"], "do_sample": False, "temperature": 0, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for name, color in (("red", (220, 20, 20)), ("blue", (20, 20, 220))):
        paths.append(str(folder / f"{name}.mp4"))
        with av.open(paths[-1], "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width = stream.height = 96
            for step in range(8):
                picture = np.full((96, 96, 3), 110, np.uint8)
                picture[30:60, 10 + 4 * step : 40 + 4 * step] = color
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
    return paths


@pytest.fixture
def examinee(packaged: SlowFast, monkeypatch) -> Examinee:
    """One that counts in `looked` what it looks at."""
    looked = []
    real = packaged.encode

    def encode(video, **sampling):
        if isinstance(video, str | list):
            looked.append(video)
        return real(video, **sampling)

    monkeypatch.setattr(packaged, "encode", encode)
    found = Examinee(packaged, 2, num_frames=2)
    found.looked = looked
    return found


def documents(clips: list[str]) -> dict:
    """Questions about two videos, one after the other in turn."""
    rows = [{"video": clip, "question": question} for question in QUESTIONS for clip in clips]
    return {"task": {"test": rows}}


def visual(document: dict) -> list:
    return [document["video"]]


def messages(document: dict) -> list[dict]:
    content = [{"type": "video", "url": document["video"]}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": document["question"]}]}]


def simple(document: dict, number: int, *more) -> SimpleNamespace:
    args = (document["question"], GREEDY, visual, *more, number, "task", "test")
    return SimpleNamespace(args=args)


def chat(document: dict, number: int, to_messages=messages) -> SimpleNamespace:
    return SimpleNamespace(args=("", to_messages, GREEDY, number, "task", "test"))


@pytest.mark.parametrize(("make", "read"), [(simple, simple_talk), (chat, chat_talk)])
def test_each_video_is_looked_at_once_for_all_its_questions(
    packaged: SlowFast, examinee: Examinee, clips: list[str], make, read
) -> None:
    asked = documents(clips)
    rows = asked["task"]["test"]
    said = examinee.converse([read(make(row, i), asked) for i, row in enumerate(rows)])
    assert examinee.looked == clips
    seen = {clip: packaged.encode(clip, num_frames=2) for clip in clips}
    alone = [packaged.ask(seen[r["video"]], r["question"], max_new_tokens=6) for r in rows]
    assert said == [[answer.text] for answer in alone]
    protocol = examinee.protocol()
    looked_at = protocol["frames"]["looked_at"]
    (first, last) = seen[clips[0]].timestamps
    assert looked_at.pop("median_fps") == pytest.approx(1 / (last - first), abs=1e-3)
    assert looked_at == {"videos": 2, "fewest": 2, "most": 2, "median": 2}
    assert protocol["tasks"]["task"] == {
        "requests": 4,
        "failed": 0,
        "prompt": QUESTIONS[0],
        "options": {"max_new_tokens": 6, "temperature": 0.0, "stop": ["\n\n"]},
    }


def leave(document: dict) -> list:
    sys.exit("video path:clip.mp4 does not exist, please check")


def test_what_fails_is_named_and_counted_and_harms_no_other(
    examinee: Examinee, clips: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = [{"video": path, "question": "What?"} for path in (str(broken), clips[0], str(broken))]
    asked = {"task": {"test": rows}}
    talks = [simple_talk(simple(row, i), asked) for i, row in enumerate(rows)]
    args = ("What?", GREEDY, leave, 0, "task", "test")
    talks.append(simple_talk(SimpleNamespace(args=args), asked))
    for parts in (
        [{"type": "text", "text": "What?"}],
        [{"type": "audio", "url": "a.wav"}, {"type": "text", "text": "What?"}],
        [{"type": "video", "url": p} for p in clips] + [{"type": "text", "text": "What?"}],
    ):
        said = [{"role": "user", "content": parts}]
        talks.append(chat_talk(chat({}, 0, lambda _, said=said: said), asked))
    said = [each[0] for each in examinee.converse(talks)]
    assert said[1] not in ("", FAILED)
    assert [*said[:1], *said[2:]] == [FAILED] * 6
    assert examinee.looked.count(str(broken)) == 1
    told = [failure["error"] for failure in examinee.failures]
    for words in ("broken.mp4", "does not exist", "no video or picture", "audio", "one video"):
        assert any(words in error for error in told), words
    assert examinee.protocol()["tasks"]["task"]["failed"] == len(told) == 6


def rounds_of(document, *, round_idx=None, previous_output=None, previous_round_info=None):
    """As both kinds of tasks tell of their rounds: three of them, about the other video at last."""
    words = f"{document['question']} Before: {previous_output}, {previous_round_info}"
    about = document["other"] if round_idx == 2 else document["video"]
    return [about], words, round_idx == 3, previous_output, f"after {round_idx}"


def rounds_in_messages(document, **told):
    if not told:
        return messages(document)
    (about,), words, is_over, said, known = rounds_of(document, **told)
    return messages({"video": about, "question": words}), is_over, said, known


@pytest.mark.parametrize("kind", ["simple", "chat"])
def test_rounds_are_told_what_was_said_and_find_their_video_at_hand(
    examinee: Examinee, clips: list[str], kind: str
) -> None:
    row = {"video": clips[0], "other": clips[1], "question": QUESTIONS[0]}
    asked = {"task": {"test": [row]}}
    if kind == "simple":
        talk = simple_rounds(simple(row, 0, rounds_of), asked)
    else:
        talk = chat_rounds(chat(row, 0, rounds_in_messages), asked)
    told = []
    examinee._on_answer = told.append
    (said,) = examinee.converse([talk], several_rounds=True)
    assert [one["answer"] for one in told] == said
    assert [one["question"] for one in told] == [
        QUESTIONS[0],
        f"{QUESTIONS[0]} Before: {said[:1]}, None",
        f"{QUESTIONS[0]} Before: {said[:2]}, after 1",
    ]
    assert examinee.looked == clips


def test_likelihoods_are_losses_of_one_look(
    packaged: SlowFast, examinee: Examinee, clips: list[str]
) -> None:
    question = QUESTIONS[0]
    said = packaged.ask(clips[0], question, num_frames=2, max_new_tokens=6).text
    choices = [f" {said}", " A purple elephant."]
    rows = [{"video": clips[0], "target": choices[1]}, {"video": "missing.mp4"}]
    asked = {"task": {"test": rows}}

    def request(target, number):
        args = (question, target, visual, number, "task", "test")
        return SimpleNamespace(args=args, task_name="task", doc_id=number)

    alone = SimpleNamespace(args=("", "Red."), task_name="task", doc_id=0)
    requests = [request(choices[0], 0), request(lambda row: row["target"], 0), request("No.", 1)]
    found = examinee.weigh([weighed(each, asked) for each in (*requests, alone)])
    assert examinee.looked[1:] == [clips[0], "missing.mp4"]  # after this test's own
    known = packaged.likelihoods(clips[0], question, choices, num_frames=2)
    assert found[:2] == [(pytest.approx(-each.per_token), each.greedy) for each in known]
    assert [greedy for _, greedy in found] == [True, False, False, False]
    assert found[0][0] < found[1][0]
    assert [loss for loss, _ in found[2:]] == [math.inf] * 2
    assert [failure["doc_id"] for failure in examinee.failures] == [1, 0]


def test_messages_are_read_as_a_conversation() -> None:
    picture = Image.new("RGB", (8, 8))
    video = {"type": "video", "url": "a.mp4", "start_time": 1.0, "end_time": None}
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [video, {"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "She."}]},
        {"role": "user", "content": [{"type": "image", "url": picture}] * 2},
    ]
    asked = asked_in([*said[:3], {"role": "user", "content": "Where?"}])
    assert [(c.source, c.start, c.end) for c in asked.clips] == [("a.mp4", 1.0, None)]
    assert asked.question == "Where?"
    assert [*asked.earlier] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "She."},
    ]
    assert [c.source for c in asked_in(said[3:]).clips] == [(picture, picture)]
    with pytest.raises(ValueError, match="no question"):
        asked_in(said[:3])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"until": "\n", "max_new_tokens": 5}, {"stop": ["\n"], "max_new_tokens": 5}),
        ({"until": ["", "."], "image_aspect_ratio": "pad"}, {"stop": ["."]}),
        ({"do_sample": False, "temperature": 0.7, "top_p": None}, {"temperature": 0.0}),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
    ],
)
def test_a_task_says_how_answers_are_made(given: dict, meant: dict) -> None:
    assert generation_of(given) == {"max_new_tokens": 256, **meant}


def test_pictures_are_all_looked_at(examinee: Examinee) -> None:
    pictures = [Image.new("RGB", (96, 96), color) for color in ("red", "blue")]
    asked = {"task": {"test": [{}]}}
    args = ("What is it?", GREEDY, lambda _: pictures, 0, "task", "test")
    ((said,),) = examinee.converse([simple_talk(SimpleNamespace(args=args), asked)])
    assert said != FAILED
    assert examinee.protocol()["frames"]["looked_at"]["most"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gen-kwargs", "temperature=0,=3"), "'=3' is no name=value"),
        (("--include-path", "nowhere"), "no folder"),
        (("-o", "nowhere/scores"), "no such folder"),
    ],
)
def test_wrong_usage_is_told_before_a_model_is_loaded(monkeypatch, capsys, options, words) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["slowfast", "eval", "--tasks", "x", *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_missing_harness_is_told_with_what_installs_it(monkeypatch, capsys) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["slowfast", "eval", "--tasks", "x"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install --no-deps lmms-eval" in line
