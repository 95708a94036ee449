"""Choosing, classifying and scoring: probabilities that no order of what is given changes."""

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import Assistant
from slowfast_mllm.tasks import choose_answer, classify_video, read_labels, score_video

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTION = "What color is the heart?"
OPTIONS = ["Red.", "White.", "Blue.", "It is orange at first."]


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """A random model of another family."""
    return load(tiny_checkpoints.write("llava_onevision", tmp_path_factory.mktemp("other") / "m"))


@pytest.fixture(params=["packaged", "other"])
def assistant(request: pytest.FixtureRequest) -> Assistant:
    return request.getfixturevalue(request.param)


def test_the_order_of_options_changes_nothing(assistant: Assistant) -> None:
    seen = assistant.encode(CLIP, num_frames=4)
    chosen = choose_answer(assistant, seen, QUESTION, OPTIONS)
    assert [option.text for option in chosen.options] == OPTIONS
    assert sum(option.probability for option in chosen.options) == pytest.approx(1)
    surest = max(chosen.options, key=lambda option: option.probability)
    assert chosen.answer == surest.text
    for options in list(itertools.permutations(OPTIONS))[5::6]:
        again = choose_answer(assistant, seen, QUESTION, options)
        assert again.answer == chosen.answer
        assert {o.text: o for o in again.options} == {o.text: o for o in chosen.options}


def test_what_a_clip_shows_plainly_is_chosen_and_scored(packaged: SlowFast) -> None:
    seen = packaged.encode(CLIP)
    assert choose_answer(packaged, seen, QUESTION, OPTIONS).answer == "White."
    red, blue = (score_video(packaged, seen, what) for what in ("a red triangle", "a blue ring"))
    assert red.score > 0.5 > blue.score
    assert red.question == "Does the video show a red triangle?"
    assert red.answered == pytest.approx(1, abs=0.05)


def test_a_score_is_the_share_of_yes_at_the_first_token(packaged: SlowFast) -> None:
    seen = packaged.encode(CLIP, num_frames=4)
    question = "Is there a red star?"
    found = packaged.likelihoods(seen, question, ["Yes", "yes", "YES", "No", "no", "NO"])
    parts = [math.exp(answer.log_probability) for answer in found]
    told = score_video(packaged, seen, question=question)
    assert told.score == pytest.approx(sum(parts[:3]) / sum(parts), abs=1e-5)
    assert told.answered == pytest.approx(sum(parts), abs=1e-5)
    strange = score_video(packaged, seen, question="Who wrote the music?")
    assert strange.answered > 0.1 or "rather answer something else" in strange.warnings[-1]


def test_a_score_is_one_pass_of_the_model(
    packaged: SlowFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = packaged.encode(CLIP, num_frames=4)
    passes: list[int] = []
    forward = packaged.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(packaged.model, "forward", counted)
    score_video(packaged, seen, "a red star")
    assert len(passes) == 1


def test_each_label_has_its_score_whatever_the_others(assistant: Assistant) -> None:
    seen = assistant.encode(CLIP, num_frames=4)
    labels = ["a red triangle", "a blue ring", "a white heart", "something that jumps"]
    found = classify_video(assistant, seen, labels)
    assert sorted(label.label for label in found.labels) == sorted(labels)
    sure = [label.probability for label in found.labels]
    assert sure == sorted(sure, reverse=True)
    for label in found.labels:
        alone = score_video(assistant, seen, label.label)
        assert label.probability == pytest.approx(alone.score, abs=1e-4)
    assert classify_video(assistant, seen, labels[::-1]).labels == found.labels
    one = classify_video(assistant, seen, labels, single=True)
    assert sum(label.probability for label in one.labels) == pytest.approx(1)
    assert classify_video(assistant, seen, labels[::-1], single=True).labels == one.labels


def test_labels_come_from_files(packaged: SlowFast, tmp_path: Path) -> None:
    motions = read_labels("camera-motion")
    assert len(motions) == 15
    assert all(motion.question.endswith("?") for motion in motions)
    file = tmp_path / "labels.txt"
    file.write_text("# mine\nred\n\npan\tDoes the camera pan to the left?\n", encoding="utf-8")
    asked = read_labels(file)
    assert [(a.label, a.question) for a in asked] == [
        ("red", None),
        ("pan", "Does the camera pan to the left?"),
    ]
    seen = packaged.encode(CLIP, num_frames=4)
    found = {label.label: label for label in classify_video(packaged, seen, asked).labels}
    alone = score_video(packaged, seen, question="Does the camera pan to the left?")
    assert found["pan"].probability == pytest.approx(alone.score, abs=1e-4)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name, said in (("empty.txt", "no labels"), ("gone.txt", "cannot be read")):
        with pytest.raises(ValueError, match=said):
            read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["Red."], "two or more"),
        (["Red.", "Blue.", " red. "], "'red.' is given twice"),
        (["Red.", " "], "is empty"),
    ],
)
def test_options_that_leave_no_choice_are_told(packaged: SlowFast, options, said: str) -> None:
    seen = packaged.encode(CLIP, num_frames=2)
    with pytest.raises(ValueError, match=said):
        choose_answer(packaged, seen, QUESTION, options)


def test_a_captioner_is_not_asked_what_it_cannot_answer(tmp_path: Path) -> None:
    captioner = load(tiny_checkpoints.write("captioner", tmp_path / "captioner"))
    with pytest.raises(ValueError, match="reads no questions"):
        score_video(captioner, CLIP, "a red star", num_frames=4)
    with pytest.raises(ValueError, match="reads no questions"):
        choose_answer(captioner, CLIP, QUESTION, OPTIONS, num_frames=4)
