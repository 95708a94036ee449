"""Local tasks in lmms-eval itself, offline, where it is installed."""

import json
import sys
from pathlib import Path

import pytest

from slowfast_cli.main import main
from slowfast_mllm.evaluate.lmms import FAILED

pytest.importorskip("lmms_eval")
CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
COMMON = """dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
doc_to_visual: !function utils.visual
"""
GENERATE = """task: own_questions
output_type: generate_until
generation_kwargs: {max_new_tokens: 8}
doc_to_text: !function utils.words
doc_to_target: answer
process_results: !function utils.score
metric_list: [{metric: said, aggregation: mean, higher_is_better: true}]
"""
ROUNDS = GENERATE.replace("own_questions", "own_rounds").replace("utils.words", "utils.rounds")
ROUNDS = ROUNDS.replace("generate_until", "generate_until_multi_round")
CHOICES = """task: own_choices
output_type: multiple_choice
doc_to_text: !function utils.words
doc_to_choice: !function utils.choices
doc_to_target: !function utils.right
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
UTILS = """
CHOICES = ["A red star moves to the left.", "Nine purple elephants."]
def visual(doc): return [doc["video"]]
def words(doc, lmms_eval_specific_kwargs=None): return doc["question"]
def choices(doc): return CHOICES
def right(doc): return doc["answer"]
def score(doc, results):
    said = results[0] if isinstance(results[0], (list, tuple)) else results
    return {"said": float(len(said))}
def rounds(doc, lmms_eval_specific_kwargs=None, round_idx=None, previous_output=None, **known):
    if not round_idx:
        return doc["question"]
    return [doc["video"]], previous_output[-1], round_idx == 2, previous_output, None
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"video": CLIP, "question": q, "answer": 0} for q in ("What happens?", "What is red?")]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("questions", GENERATE), ("rounds", ROUNDS), ("choices", CHOICES)):
        common = COMMON.replace("DATA", str(folder / "data.jsonl"))
        (folder / f"{name}.yaml").write_text(common + task)
    (folder / "utils.py").write_text(UTILS)
    return folder


def run(monkeypatch, capsys, *options: str) -> tuple[int, str, str]:
    arguments = ["slowfast", "eval", "--num-frames", "4", "--device", "cpu", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    code = 0
    try:
        main()
    except SystemExit as left:
        code = int(left.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("kind", [[], ["--simple"]], ids=["chat", "simple"])
def test_tasks_are_scored_with_their_protocol(tasks: Path, monkeypatch, capsys, kind) -> None:
    output = tasks.parent / "scores"
    options = ("--tasks", "own_questions,own_rounds", "--include-path", str(tasks))
    code, out, _ = run(monkeypatch, capsys, *options, "-o", str(output), *kind)
    assert code == 0
    results = json.loads((output / "results.json").read_text())
    assert results["scores"]["own_questions"]["said"] == 1
    assert results["scores"]["own_rounds"]["said"] == 2
    protocol = results["protocol"]
    assert protocol["frames"]["looked_at"]["most"] == 4
    assert protocol["tasks"]["own_questions"]["prompt"] == "What happens?"
    assert protocol["versions"]["lmms_eval"]
    assert protocol["asked_as"] == (kind[0][2:] if kind else "chat")
    assert "2 requests, 0 failed" in out
    answers = [json.loads(x) for x in (output / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 2 + 4
    assert len((output / "samples.jsonl").read_text().splitlines()) == 4


def test_the_likeliest_choice_is_taken(tasks: Path, monkeypatch, capsys) -> None:
    options = ("--tasks", "own_choices", "--include-path", str(tasks), "--simple", "--json")
    code, out, _ = run(monkeypatch, capsys, *options, "--limit", "1")
    results = json.loads(out)
    assert code == 0
    assert results["scores"]["own_choices"]["acc"] == 1
    assert results["protocol"]["tasks"]["own_choices"]["requests"] == 2


def test_what_is_wrong_with_a_task_is_one_line(tasks: Path, monkeypatch, capsys) -> None:
    (tasks / "wrong.yaml").write_text(GENERATE.replace("own_questions", "own_wrong"))
    for name, words in (
        ("nobodys", "no task is called nobodys"),
        ("own_wrong", "own_wrong"),
        ("own_choices", "say --simple"),
    ):
        output = tasks.parent / name
        options = ("--tasks", name, "--include-path", str(tasks), "-o", str(output))
        code, out, err = run(monkeypatch, capsys, *options)
        assert (code, out) == (1, "")
        assert words in err.splitlines()[-1]
        assert "Traceback" not in err
        assert not [*output.iterdir()]  # so that the same line, mended, can be said again


def test_a_clip_that_fails_leaves_a_score_and_a_name(tasks: Path, monkeypatch, capsys) -> None:
    row = {"video": "missing.mp4", "question": "What?", "answer": 0}
    with (tasks / "data.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    options = ("--tasks", "own_questions", "--include-path", str(tasks), "--json")
    code, out, err = run(monkeypatch, capsys, *options)
    assert code == 1
    assert json.loads(out)["protocol"]["tasks"]["own_questions"]["failed"] == 1
    assert "missing.mp4" in err.splitlines()[-1]


def test_no_choice_is_read_out_of_a_failure() -> None:
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

    assert extract_mcq_answer(FAILED) == ""


def test_the_harness_finds_the_models_by_their_name() -> None:
    from lmms_eval.models import get_model

    assert get_model("slowfast").is_simple is False
    assert get_model("slowfast", force_simple=True).is_simple is True
