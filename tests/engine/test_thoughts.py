"""What a model thinks before it answers is told apart from the answer; half a thought is none."""

import sys
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
from transformers import LogitsProcessor

from slowfast_cli.main import main
from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import Assistant, Request, TransformersModel
from slowfast_mllm.engine.answers import Generation
from slowfast_mllm.engine.thoughts import ToldApart, split_thought
from slowfast_mllm.tasks import Captioning, caption_video, find_events

CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
FEW = {"num_frames": 2}


class Says(LogitsProcessor):
    """Has a model say what is given, and end."""

    def __init__(self, model: Assistant, text: str) -> None:
        slowfast = isinstance(model, SlowFast)
        tokenizer = model.processor.tokenizer if slowfast else model.tokenizer
        ends = model.end_ids if slowfast else model._end_ids
        self.ids = [*tokenizer(text, add_special_tokens=False).input_ids, *ends]
        self.said = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        only = torch.full_like(scores, -torch.inf)
        only[:, self.ids[self.said]] = 0
        self.said += 1
        return only


def says(model: Assistant, text: str) -> dict:
    return {"logits_processor": [Says(model, text)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints.write("qwen2_5_vl", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    return load(folder)


@pytest.fixture(scope="module")
def thinker(folder: Path) -> TransformersModel:
    """A model whose template opens the thought."""
    other = load(folder)
    other.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    return other


@pytest.mark.parametrize(
    ("text", "opened", "thought", "answer"),
    [
        ("A dog.", False, None, "A dog."),
        ("<think>\nfour legs\n</think>\n\nA dog.", False, "four legs\n", "A dog."),
        ("four legs</think>\nA dog.", True, "four legs", "A dog."),
        ("four legs</think>\nA dog.", False, "four legs", "A dog."),
        ("<think>a</think><answer>A dog.</answer>", False, "a", "A dog."),
        ("<think>a</think>\n<answer>\nA dog.", False, "a", "A dog."),
        ("<answer>A dog.</answer> Or so.", False, None, "A dog."),
        ("<think></think>A dog.", False, "", "A dog."),
        ("1 < 2 <b>", False, None, "1 < 2 <b>"),
        ("<think>four le", False, "four le", ""),
        ("four legs. A dog.", True, "four legs. A dog.", ""),
        ("Well. <think>four", False, "four", "Well. "),
    ],
)
def test_thought_and_answer_are_told_apart(text, opened, thought, answer) -> None:
    spoken = split_thought(text, opened)
    assert (spoken.thought, spoken.answer) == (thought, answer)
    for size in (1, 3, 100):
        thoughts: list[str] = []
        answers: list[str] = []
        apart = ToldApart(opened, thoughts.append, answers.append)
        for at in range(0, len(text), size):
            apart.put(text[at : at + size], last=False)
        apart.put("", last=True)
        assert "".join(thoughts) == (thought or "")
        assert "".join(answers).endswith(answer)
        if opened or "</think>" not in text or "<think>" in text:
            assert "".join(answers) == answer


def test_an_answer_keeps_its_thought_to_itself(model, thinker) -> None:
    thoughts: list[str] = []
    pieces: list[str] = []
    text = "two. red.</think>\n\nIt is <answer>red. A bit."
    options = {**says(thinker, text), "on_thought": thoughts.append, "stop": ["."], **FEW}
    answer = thinker.ask(CLIP, "Which?", pieces.append, **options)
    assert (answer.text, answer.thought, answer.problem) == ("red", "two. red.", None)
    assert "".join(thoughts) == "two. red."
    assert "".join(pieces).endswith("red")
    assert answer.to_dict()["thought"] == "two. red."
    plain = model.ask(CLIP, "Which?", **says(model, "Red."), **FEW)
    assert (plain.text, plain.thought) == ("Red.", None)
    assert "thought" not in plain.to_dict()


def test_half_a_thought_is_no_answer(model, thinker) -> None:
    chat = model.chat(CLIP, **FEW)
    half = chat.ask("Which?", max_new_tokens=9, **says(model, "<think>red or blue</think>Red."))
    assert (half.text, half.thought) == ("", "re")
    assert half.truncated
    assert half.problem in half.warnings
    assert "still thinking" in half.problem
    assert chat.messages == []
    chat.ask("Which?", **says(model, "<think>hm</think>Red."))
    assert chat.messages[1]["content"] == [{"type": "text", "text": "Red."}]
    thoughts: list[str] = []
    heard = {"max_new_tokens": 3, "on_thought": thoughts.append, **FEW}
    requests = [Request(CLIP, "Which?", options=heard), Request(CLIP, "Or?", options=heard)]
    answers = [*thinker.generate(requests)]
    assert [answer.text for answer in answers] == ["", ""]
    assert thoughts == [answer.thought for answer in answers]
    with pytest.raises(ValueError, match="still thinking"):
        caption_video(thinker, CLIP, Captioning(max_new_tokens=3, sampling=FEW))
    with pytest.raises(ValueError, match="still thinking"):
        find_events(thinker, CLIP, window=9, max_new_tokens=3, **FEW)


def test_a_slow_fast_model_thinks_too_alone_and_in_a_batch() -> None:
    model = load(device="cpu")
    clip = model.encode(CLIP, **FEW)
    text = "<think>Is it red?</think>\nIt is red. Really."
    chat = model.chat(clip)
    told = chat.ask("Which?", stop=["."], **says(model, text))
    assert chat.messages[1]["content"] == "It is red"
    assert chat.ask("And?", **says(model, "Yes.")).text == "Yes."
    pieces: list[str] = []
    thoughts: list[str] = []
    options = {"stop": ["."], "on_thought": thoughts.append, **says(model, text)}
    half = {"max_new_tokens": 4, **says(model, text)}
    requests = [
        Request(clip, "Which?", pieces.append, options),
        Request(clip, "Which?", options=half),
    ]
    answer, none = model.generate(requests)
    assert (answer.text, answer.thought) == (told.text, told.thought) == ("It is red", "Is it red?")
    assert ("".join(thoughts), "".join(pieces)) == ("Is it red?", "It is red")
    assert (none.text, none.problem) == ("", none.warnings[-1])


def test_a_thought_leaves_room_for_an_answer_that_fits_a_schema(model, thinker) -> None:
    pytest.importorskip("outlines_core")
    schema = {"enum": ["red", "blue"]}
    for most in (40, 120):
        answer = thinker.ask(CLIP, "Which?", schema=schema, max_new_tokens=most, **FEW)
        assert answer.data in schema["enum"]
        assert answer.thought
        assert answer.timing["tokens"] <= most
    short = thinker.ask(CLIP, "Which?", schema=schema, **says(thinker, 'hm</think>\n"red"'), **FEW)
    assert (short.data, short.thought) == ("red", "hm")
    with pytest.raises(ValueError, match="allow more"):
        thinker.ask(CLIP, "Which?", schema=schema, max_new_tokens=12, **FEW)


def test_given_answers_are_likely_after_a_thought_not_in_it(model, folder, thinker) -> None:
    done = load(folder)
    done.tokenizer.chat_template = thinker.tokenizer.chat_template.replace(
        "<think>\n", "<think>\n\n</think>\n\n"
    )
    answers = ("red", "blue")
    told = [
        [found.log_probability for found in asked.likelihoods(CLIP, "Which?", answers, **FEW)]
        for asked in (thinker, done, model)
    ]
    assert told[0] == pytest.approx(told[1])
    assert told[0] != pytest.approx(told[2])


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_the_command_line_shows_thoughts_beside_the_answer(
    folder, thinker, monkeypatch, capsys, tmp_path, stream: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("slowfast_mllm.load", lambda *args, **kwargs: thinker)
    text = "hm, hm</think>\n\nRed."
    monkeypatch.setattr(Generation, "own_processors", lambda *_: [Says(thinker, text)])

    def run(*options: str) -> tuple[int, str, str]:
        words = ("slowfast", "ask", CLIP, "Which?", "--model", str(folder), "--num-frames", "2")
        monkeypatch.setattr(sys, "argv", [*words, stream, *options])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    assert run() == (0, "Red.\n", "")
    assert run("--show-thinking") == (0, "Red.\n", "hm, hm\n")
    code, out, err = run("--max-new-tokens", "4")
    assert (code, out.strip()) == (1, "")
    assert err.startswith("Error: no answer: after 4 tokens the model was still thinking")
    assert len(err.splitlines()) == 1
