"""How likely answers are that are known beforehand: as if each had been read by itself."""

import math
from pathlib import Path

import pytest
import torch

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import likelihoods, loaded_model

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
ANSWERS = ["Yes.", "Yes", "yes", "A red star moves to the left.", "A red circle.", "no"]
QUESTIONS = ["What happens?", "What is red?", "Is it?"]


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def video(packaged: SlowFast):
    return packaged.encode(CLIP, num_frames=8)


@pytest.fixture(scope="module")
def expected(packaged: SlowFast, video) -> list[list[float]]:
    """Each prompt and answer read in one piece, without a cache."""
    found = []
    for question in QUESTIONS:
        prompt = packaged.prompt_ids([packaged.user_message(question, first=True)], video)
        row = []
        for answer in ANSWERS:
            ids = packaged.processor.tokenizer(answer, return_tensors="pt").input_ids
            with torch.no_grad():
                whole = torch.cat([prompt, ids], 1)
                logits = packaged.model(input_ids=whole, video_memory=[video.memory]).logits[0]
            told = logits[prompt.shape[1] - 1 : -1].log_softmax(-1)
            row.append(float(told.gather(1, ids.T).sum()))
        found.append(row)
    return found


@pytest.mark.parametrize("most", [512, 9, 1], ids="trees of {}".format)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_together_as_alone(
    packaged: SlowFast, video, expected, monkeypatch, most: int, attention: str
) -> None:
    monkeypatch.setattr(likelihoods, "_MOST", most)
    packaged.model.set_attn_implementation(attention)
    found = packaged.likelihoods_each(video, QUESTIONS, ANSWERS)
    packaged.model.set_attn_implementation("sdpa")
    sums = [[answer.log_probability for answer in row] for row in found]
    torch.testing.assert_close(torch.tensor(sums), torch.tensor(expected), atol=1e-3, rtol=1e-3)
    one = found[0][3]
    assert one.per_token == one.log_probability / one.num_tokens
    assert [a.log_probability for a in packaged.likelihoods(video, QUESTIONS[1], ANSWERS)] == (
        pytest.approx(expected[1], abs=1e-3)
    )


def test_layers_that_take_no_tree_are_asked_answer_by_answer(
    packaged: SlowFast, video, expected, monkeypatch
) -> None:
    monkeypatch.setattr(loaded_model, "_MASKED", ())
    found = packaged.likelihoods(video, QUESTIONS[0], ANSWERS)
    assert [a.log_probability for a in found] == pytest.approx(expected[0], abs=1e-3)


def test_the_first_tokens_of_all_answers_are_one_distribution(packaged: SlowFast, video) -> None:
    vocabulary = sorted(packaged.processor.tokenizer.get_vocab())
    words = [word for word in vocabulary if word.isascii() and word.isalpha()]
    found = packaged.likelihoods(video, "What happens?", words)
    single = {w: f.log_probability for w, f in zip(words, found, strict=True) if f.num_tokens == 1}
    assert 0 < sum(map(math.exp, single.values())) <= 1 + 1e-4
    assert packaged.likelihoods(video, "What happens?", ["Yes"])[0].log_probability < 0


def test_an_answer_says_itself_how_likely_it_was(packaged: SlowFast, video) -> None:
    answer = packaged.ask(video, "How does the camera move?", return_scores=True)
    scores = answer.scores[:-1]  # the end is not among the words
    (found,) = packaged.likelihoods(video, "How does the camera move?", [answer.text])
    assert found.num_tokens == len(scores)
    assert found.log_probability == pytest.approx(sum(s.log_probability for s in scores), abs=1e-3)


@pytest.mark.parametrize(
    ("question", "answers", "said"),
    [
        ("What?", "Yes", "give a list of texts"),
        ("What?", [], "give a list of texts"),
        ("What?", ["Yes", " "], "is empty"),
        ("What?", ["Yes", "\ud800"], "is empty"),
        ("What?", ["Yes", "<|im_end|>"], "is empty"),
        (" ", ["Yes"], "question is empty"),
        ("What?", ["word " * 9000], "this model reads less"),
    ],
    ids=repr,
)
def test_what_cannot_be_compared_is_said(
    packaged: SlowFast, video, question: str, answers, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        packaged.likelihoods(video, question, answers)


@pytest.mark.parametrize("most", [512, 1], ids="trees of {}".format)
def test_about_several_videos_as_about_each(packaged: SlowFast, monkeypatch, most: int) -> None:
    """Also where they are of other lengths."""
    monkeypatch.setattr(likelihoods, "_MOST", most)
    videos = [packaged.encode(CLIP, start=at, num_frames=n) for at, n in ((0, 8), (3, 40), (4, 8))]
    found = packaged.likelihoods_about(videos, QUESTIONS[1], ANSWERS)
    for video, row in zip(videos, found, strict=True):
        alone = [a.log_probability for a in packaged.likelihoods(video, QUESTIONS[1], ANSWERS)]
        assert [answer.log_probability for answer in row] == pytest.approx(alone, abs=1e-3)
    assert found[0] != found[2]
