"""What an answer read of a video: right sums, nothing changed by asking, the needle found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import Generation, Request
from slowfast_mllm.engine.evidence import weigh
from slowfast_mllm.model import slow_evidence
from slowfast_mllm.model.slow_evidence import SlowEvidence
from slowfast_mllm.tasks.evidence_image import EDGE, draw_evidence

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTION = "Which letter or digit is shown?"


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def video(packaged: SlowFast):
    return packaged.encode(CLIP, num_frames=8)


@pytest.mark.parametrize("block", [4096, 3, 1], ids="blocks of {}".format)
@pytest.mark.parametrize("masked", [False, True], ids=["all", "some"])
def test_sums_are_those_of_the_whole_matrix(monkeypatch, block: int, masked: bool) -> None:
    monkeypatch.setattr(slow_evidence, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 5, 8, generator=generator)
    keys = torch.randn(2, 2, 7, 8, generator=generator)
    gate = torch.randn(2, 5, 1, generator=generator)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = not masked
    scores = query @ keys.repeat_interleave(2, 1).transpose(-1, -2)
    attention = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    each = (gate.abs()[:, None] * attention).sum(1)
    expected = torch.stack([each[:, -3:].sum(1), each[:, 1:3].sum(1)], 1)
    collector = SlowEvidence(slice(-3, None), slice(1, 3))
    for _ in range(2):  # layers
        collector.add(query, keys, gate, mask if masked else None)
    torch.testing.assert_close(collector.weights, 2 * expected)


def test_a_pass_collects_what_its_positions_attend(packaged: SlowFast, video) -> None:
    """The layers' outputs tell: values of one slow token alone, and what they add is its weight."""
    network = packaged.model
    ids = packaged.prompt_ids([packaged.user_message(QUESTION, first=True)], video)
    first = network.config.hybrid_layers[0]
    cross = network.model.language_model.layers[first].self_attn.cross_attn
    seen = {}
    hook = cross.register_forward_hook(lambda *call: seen.update(call=call))
    collector = SlowEvidence(slice(-2, None))
    memory = replace(video.memory, slow_keys=dict(video.memory.slow_keys))
    with torch.no_grad():
        plain = network(input_ids=ids, video_memory=[memory])
        told = network(input_ids=ids, video_memory=[memory], slow_evidence=collector)
    hook.remove()
    assert torch.equal(plain.logits, told.logits)
    frames = len(video.timestamps)
    assert collector.weights.shape == (1, 1, memory.slow_keys[first].shape[1])
    assert collector.weights.shape[-1] % frames == 0
    _, (query, output, batch, _), _ = seen["call"]
    heads = query.shape[1]
    gates = cross.gate(output.flatten(2))[0, -2:, 0].abs()
    alone = SlowEvidence(slice(-2, None))
    cross.tell(alone, query, output, batch)
    assert float(alone.weights.sum().detach()) == pytest.approx(
        float(gates.sum().detach()) * heads, rel=1e-4
    )


@pytest.mark.parametrize("how", [{}, {"num_beams": 2}, {"temperature": 1.0, "seed": 3}], ids=str)
def test_asking_for_evidence_changes_no_answer(packaged: SlowFast, video, how) -> None:
    plain = packaged.ask(video, QUESTION, return_scores=True, **how)
    told = packaged.ask(video, QUESTION, return_scores=True, evidence=True, **how)
    assert told.text == plain.text
    assert [score.log_probability for score in told.scores] == pytest.approx(
        [score.log_probability for score in plain.scores], abs=1e-4
    )
    assert plain.evidence is None
    assert "evidence" not in plain.to_dict()
    found = told.to_dict()["evidence"]
    assert json.loads(json.dumps(found)) == found
    assert len(found["weights"]) == 8
    assert sum(found["weights"]) == pytest.approx(1, abs=1e-4)
    assert found["top"][0]["weight"] == max(found["weights"])
    assert np.sum(found["top"][0]["cells"]) == pytest.approx(1, abs=1e-4)
    assert told.timing["evidence"] > 0


def test_a_turn_of_a_conversation_and_a_batch_tell_the_same(packaged: SlowFast, video) -> None:
    """With the cache of the answer, with that of the video alone, with none; and talk goes on."""
    alone = packaged.ask(video, QUESTION, evidence=True).evidence
    request = Request(video, QUESTION, options={"evidence": True})
    (batched,) = packaged.generate([request])
    fresh = load(device="cpu")
    (without_cache,) = fresh.generate([Request(fresh.encode(CLIP, num_frames=8), QUESTION,
                                               options={"evidence": True})])  # fmt: skip
    for other in (batched, without_cache):
        assert other.evidence.weights == pytest.approx(alone.weights, abs=1e-4)
    talk, quiet = packaged.chat(video), packaged.chat(video)
    for question in (QUESTION, "What is red?", "How does the camera move?"):
        told = talk.ask(question, evidence=True)
        assert told.text == quiet.ask(question).text
        assert len(told.evidence.weights) == 8


def test_it_takes_one_pass_and_a_shorter_one_the_next_time(packaged: SlowFast, monkeypatch) -> None:
    seen = packaged.encode(CLIP, num_frames=4)
    lengths: list[int] = []
    forward = packaged.model.model.forward

    def counted(*args, **kwargs):
        if kwargs.get("slow_evidence") is not None:
            lengths.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(packaged.model.model, "forward", counted)
    first, second = (packaged.ask(seen, QUESTION, evidence=True) for _ in range(2))
    assert second.evidence.weights == pytest.approx(first.evidence.weights, abs=1e-4)
    assert lengths[0] > lengths[1] == first.timing["tokens"]


def test_models_whose_answers_do_not_look_read_before_they_answer(
    packaged: SlowFast, video, monkeypatch
) -> None:
    monkeypatch.setattr(packaged.model.config, "slow_attention_for_generated_tokens", False)
    told = packaged.ask(video, QUESTION, evidence=True, max_new_tokens=4)
    assert told.text == packaged.ask(video, QUESTION, max_new_tokens=4).text
    assert sum(told.evidence.weights) == pytest.approx(1, abs=1e-4)


def test_what_every_question_reads_is_divided_out() -> None:
    read, usual = torch.full((8, 4), 1.0), torch.full((8, 4), 1.0)
    read[2], usual[2] = 20.0, 20.0  # the first frame of a shot, say
    read[5, 3] = 12.0
    times = [float(second) for second in range(8)]
    found = weigh(read.double(), usual.double(), (1, 3), list(range(0, 80, 10)), times, 8.0)
    assert [(span.start, span.end) for span in found.spans] == [(5.0, 6.0)]
    best = found.top[0]
    assert (best.position, best.index, best.timestamp) == (5, 50, 5.0)
    assert best.cells == [pytest.approx([1 / 3] * 3, abs=1e-5)]  # the fourth is of an object
    assert not weigh(usual, usual, (2, 2), list(range(8)), times, 8.0).spans


def test_the_frame_that_was_asked_about_is_read_most(packaged: SlowFast) -> None:
    """Chance: one or two of 32 frames."""
    found = asked = 0
    for seed in (700030, 700032, 700042, 700045, 700049, 700050, 700061, 700064):
        clip = world.sample_clip(seed, num_frames=32)
        shown = np.flatnonzero(clip.labels.needle)
        questions = [qa.question for qa in clip.questions if qa.type == "needle"]
        if not questions or not len(shown):
            continue
        answer = packaged.ask(clip.frames, questions[0], evidence=True, num_frames=32)
        asked += 1
        found += answer.evidence.top[0].position in shown
    assert asked >= 6
    assert found >= 0.5 * asked


def test_it_is_drawn(packaged: SlowFast, tmp_path) -> None:
    answer = packaged.ask(CLIP, QUESTION, evidence=True, num_frames=40)
    pictures = packaged.pictures(CLIP, EDGE, num_frames=40)
    assert pictures.shape == (40, EDGE, EDGE, 3)
    draw_evidence(answer, pictures, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.format == "PNG"
        assert image.height > 3 * EDGE
    with pytest.raises(ValueError, match="39 pictures for 40 frames"):
        draw_evidence(answer, pictures[1:], tmp_path / "other.png")
    with pytest.raises(ValueError, match="no evidence"):
        draw_evidence(replace(answer, evidence=None), pictures, tmp_path / "other.png")


def test_off_is_the_default() -> None:
    assert not Generation().evidence
