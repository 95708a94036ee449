"""Answers without torch: the same as with it, and nothing but what they can be sure of."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.engine.quick import recall, take_note

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTIONS = ("How does the camera move?", "What happens in the video?", "鏡頭如何移動?", "<video>?")
LOOK: dict[str, Any] = {"num_frames": 4, "fit": "squash"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[SlowFast, Path, list[str]]:
    """The packaged model, the folder of its memories with a note, and what it answers."""
    folder = tmp_path_factory.mktemp("home") / "memories"
    assistant = load(cache=MemoryCache(folder), device="cpu")
    assert isinstance(assistant, SlowFast)
    video = assistant.encode(str(CLIP), **LOOK)
    answers = [assistant.ask(video, question).text for question in QUESTIONS]
    take_note(assistant, None, folder)
    return assistant, folder, answers


def test_a_recalled_video_gets_the_answers_of_the_whole_engine(
    seen: tuple[SlowFast, Path, list[str]],
) -> None:
    assistant, folder, answers = seen
    for question, expected in zip(QUESTIONS, answers, strict=True):
        found = recall(None, str(CLIP), folder, **LOOK)
        assert found is not None
        pieces: list[str] = []
        answer = found.ask(question, pieces.append)
        assert answer.text == expected == "".join(pieces).strip()
        whole = assistant.ask(str(CLIP), question, **LOOK).to_dict()
        told = answer.to_dict()
        assert told.pop("timing").keys() == whole.pop("timing").keys()
        assert told == whole


def test_it_is_cut_off_where_the_whole_engine_cuts_it_off(
    seen: tuple[SlowFast, Path, list[str]],
) -> None:
    assistant, folder, _ = seen
    found = recall(None, str(CLIP), folder, **LOOK)
    assert found is not None
    answer = found.ask(QUESTIONS[0], max_new_tokens=2)
    whole = assistant.ask(str(CLIP), QUESTIONS[0], max_new_tokens=2, **LOOK)
    assert (answer.text, answer.truncated) == (whole.text, True)


def test_neither_torch_nor_transformers_is_imported(
    seen: tuple[SlowFast, Path, list[str]],
) -> None:
    _, folder, answers = seen
    code = (
        "import json, sys; from slowfast_mllm.engine.quick import recall\n"
        "from pathlib import Path\n"
        "video, folder, question, look = sys.argv[1:]\n"
        "found = recall(None, video, Path(folder), **json.loads(look))\n"
        "print(found.ask(question).text)\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(CLIP), str(folder), QUESTIONS[0], json.dumps(LOOK)]
    done = subprocess.run(words, capture_output=True, check=True, text=True)
    assert done.stdout.splitlines() == [answers[0], "False"]


@pytest.mark.parametrize("precision", ["exact", "bfloat16", "int8"])
def test_memory_files_are_asked(
    seen: tuple[SlowFast, Path, list[str]], tmp_path: Path, precision: Any
) -> None:
    assistant, folder, _ = seen
    path = tmp_path / "clip.sfmem"
    assistant.index(str(CLIP), path, precision, **LOOK)
    found = recall(None, str(path), folder)
    assert found is not None
    assert found.ask(QUESTIONS[0]).text == assistant.ask(path, QUESTIONS[0]).text


def test_whatever_is_not_sure_is_left_to_the_whole_engine(
    seen: tuple[SlowFast, Path, list[str]], tmp_path: Path
) -> None:
    assistant, folder, _ = seen
    assert recall(None, str(CLIP), folder, **{**LOOK, "num_frames": 5}) is None
    assert recall(None, str(CLIP), folder, num_frames="auto") is None
    assert recall(None, str(CLIP), folder, num_frames=-1) is None
    assert recall(None, str(CLIP), tmp_path / "memories", **LOOK) is None
    assert recall("some/model", str(CLIP), folder, **LOOK) is None
    other = tmp_path / "other.mp4"
    other.write_bytes(CLIP.read_bytes() + b"\0")
    assert recall(None, str(other), folder, **LOOK) is None
    changed = tmp_path / "changed.sfmem"
    assistant.index(str(CLIP), changed, **LOOK)
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    assert recall(None, str(changed), folder) is None


def test_a_note_is_of_the_files_that_it_was_taken_of(
    seen: tuple[SlowFast, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, _ = seen
    weights = tmp_path / "weights"
    weights.mkdir()
    from slowfast_mllm.engine import quick

    for file in quick.WEIGHTS.glob("*.*"):
        os.link(file, weights / file.name)
    monkeypatch.setattr(quick, "WEIGHTS", weights)
    assert recall(None, str(CLIP), folder, **LOOK) is None


def test_broken_notes_are_passed_over(
    seen: tuple[SlowFast, Path, list[str]], tmp_path: Path
) -> None:
    _, folder, _ = seen
    (note,) = folder.with_name("models").glob("*.note")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / note.name).write_text("{", encoding="utf-8")
    assert recall(None, str(CLIP), tmp_path / "memories", **LOOK) is None
    found = recall(None, str(CLIP), folder, **LOOK)
    assert found is not None
    with pytest.raises(ValueError, match="empty"):
        found.ask("<video>")
    found._note = replace(found._note, most=10)
    with pytest.raises(ValueError, match="fewer words"):
        found.ask(QUESTIONS[0])
