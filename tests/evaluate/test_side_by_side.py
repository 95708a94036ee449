"""The same questions to several models: what fails does so alone, and each has its own numbers."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from slowfast_cli.main import main
from slowfast_mllm.evaluate.questions import is_right, read_questions
from slowfast_mllm.evaluate.side_by_side import ModelRun, Reply, compare_models

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"


def table(folder: Path) -> Path:
    """Two questions that can be answered, one about no video, and one without words."""
    rows = [
        {"video": str(CLIP), "question": "Any cuts?", "answer": "nobody says this", "id": "cuts"},
        {"path": str(CLIP), "question": "What happens?", "start": 1, "end": 2},
        {"video": "gone.mp4", "question": "What?"},
        {"video": str(CLIP), "question": " "},
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_models_stand_side_by_side(tmp_path: Path, monkeypatch, capsys) -> None:
    tiny = str(tiny_checkpoints.write("qwen2_vl", tmp_path / "tiny"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "no_such_family"}')
    models = (tiny, str(broken))
    line = ("bench", "compare", "--models", *models, "--data", str(table(tmp_path)))
    few = ("--num-frames", "2", "--max-new-tokens", "3", "--json")
    monkeypatch.setattr(sys, "argv", ["slowfast", *line, *few])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 1
    assert "6 of 8 answers failed" in told.err
    found: dict[str, Any] = json.loads(told.out)
    assert found["questions"][0]["id"] == "cuts"
    runs = found["models"]
    assert [run["model"] for run in runs] == list(models)
    assert (runs[0]["failed"], runs[0]["right"], runs[0]["error"]) == (2, 0, None)
    replies = runs[0]["replies"]
    assert [reply["right"] for reply in replies] == [False, None, None, None]
    assert "gone.mp4" in replies[2]["error"]
    assert "no words under `question`" in replies[3]["error"]
    assert all(reply["answering"] > 0 for reply in replies[:2])
    assert 1e8 < runs[0]["peak_memory"] < 4e9
    assert runs[1]["failed"] == 4
    assert str(broken) in runs[1]["error"]


class Deadly:
    """Ends the process that it is handed to."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_a_process_that_ends_takes_no_other_with_it(tmp_path: Path) -> None:
    questions = read_questions(table(tmp_path))
    (run,) = compare_models(["one"], questions, {"device": Deadly()}, {})
    assert run.error == "its process ended with exit code 3"
    assert run.failed == len(questions)
    assert run.median("answering") is None


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("It is a Red star.", "red STAR", True),
        ("A star that is red.", "red star", False),
        ("redder", "red", False),
        ("影片裡有一顆紅色的星星。", "紅色", True),
    ],
)
def test_an_answer_is_right_that_holds_what_was_expected(answer, expected, right) -> None:
    assert is_right(answer, expected) is right


def test_what_is_no_table_of_questions_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("video,question\n")
    for name, said in (("empty.csv", "without rows"), ("q.txt", "jsonl"), ("gone.csv", "gone")):
        with pytest.raises(ValueError, match=said):
            read_questions(tmp_path / name)
    (tmp_path / "q.csv").write_text("video,question,answer\na.mp4,What?,...\n")
    (question,) = read_questions(tmp_path / "q.csv")
    assert "no words under `answer`" in str(question.problem)


def test_what_was_through_is_told_after_ctrl_c(tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupted(models: Any, questions: Any, *_: Any) -> Any:
        yield ModelRun(models[0], [Reply(answer="So.")] * len(questions))
        raise KeyboardInterrupt

    monkeypatch.setattr("slowfast_mllm.evaluate.side_by_side.compare_models", interrupted)
    words = ("--models", "one", "other", "--yes", "--data", str(table(tmp_path)))
    monkeypatch.setattr(sys, "argv", ["slowfast", "bench", "compare", *words])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert (end.value.code, told.err) == (130, "Interrupted.\n")
    assert "one: So." in told.out
    assert "right 0 of 1" in " ".join(told.out.split())
