"""Tokens of objects: the detector as a vision model, tracks through a clip, models with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from processor_parts import tiny_config, tiny_tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel

from slowfast_mllm.engine import SlowFast
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel
from slowfast_mllm.model.object_tracks import (
    NUM_TRACK_FEATURES,
    Detections,
    features_of,
    follow,
    track_features,
    without_overlaps,
)
from slowfast_mllm.processing import SlowFastProcessor

SMALL = {
    "stem_width": 8,
    "pyramid_width": 16,
    "stage_blocks": [1, 1, 1, 1],
    "num_classes": 5,
    "num_objects": 3,
    "image_size": 64,
}


def detections(*boxes: tuple[int, float, float], size: float = 0.1) -> Detections:
    """One frame: (class, x, y) each, surely of that class."""
    scores = torch.full((len(boxes), 5), 0.05)
    corners = torch.zeros(len(boxes), 4)
    for row, (kind, x, y) in enumerate(boxes):
        scores[row, kind] = 0.8
        corners[row] = torch.tensor([x - size, y - size, x + size, y + size])
    return Detections(scores, corners, torch.full((len(boxes), 3), 0.5))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"given": "maps", "layers": ["c5", "h4"]}, (2, 128 + 16, 2, 3)),
        ({"given": "maps", "layers": ["p3"]}, (2, 16, 8, 12)),
        ({"given": "scores"}, (2, 5, 2, 3)),
        ({"given": "objects"}, (2, 3, 5 + 11)),
    ],
)
def test_what_the_config_says_is_given_out(given: dict, shape: tuple) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("slowfast_nanodet", **SMALL, **given)
    model = AutoModel.from_config(config).eval()
    assert isinstance(model, NanoDetModel)
    with torch.no_grad():
        output = model(torch.randn(2, 3, 64, 96)).last_hidden_state
    assert output.shape == shape
    assert shape[1 if output.ndim == 4 else 2] == config.hidden_size
    assert output.isfinite().all()


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layers: \['c9'\]"):
        NanoDetConfig(layers=["c9"])


def test_frames_are_looked_at_in_parts_and_a_still_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is what is found in each by itself."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("slowfast_nanodet", **SMALL, given="objects", score_threshold=0)
    model = AutoModel.from_config(config).eval()
    shown = [0, 0, *range(1, 10), 10, 10, 10, 0]  # in more than one part
    frames = torch.randn(11, 3, 64, 64)[shown]
    looked_at: list[int] = []
    maps = model.maps
    with torch.no_grad():
        expected = [model.detect(frame[None])[0] for frame in frames]
        monkeypatch.setattr(model, "maps", lambda some: looked_at.append(len(some)) or maps(some))
        found = model.detect(frames)
    assert sum(looked_at) == 12
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.boxes, other.boxes)
        torch.testing.assert_close(one.colors, other.colors)


def test_borders_are_not_looked_at() -> None:
    """What is found between them lies where it lies in the whole frame."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("slowfast_nanodet", **SMALL, given="objects", score_threshold=0)
    model = AutoModel.from_config(config).eval()
    picture = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        alone = model.detect(picture)[0]
        between = model.detect(torch.nn.functional.pad(picture, (0, 0, 16, 16)))[0]
    assert torch.allclose(alone.scores, between.scores, atol=1e-5)
    assert torch.allclose(alone.boxes[:, 1] * 0.5 + 0.25, between.boxes[:, 1], atol=1e-5)
    assert torch.allclose(alone.boxes[:, 2], between.boxes[:, 2], atol=1e-5)
    with torch.no_grad():
        assert len(model.detect(torch.zeros(1, 3, 64, 64))) == 1


def test_of_two_boxes_of_one_thing_the_surer_stays() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.52, 0.5], [0.6, 0.6, 0.9, 0.9]])
    scores = torch.tensor([[0.6, 0.1], [0.7, 0.1], [0.1, 0.5]])
    assert without_overlaps(scores, boxes, 0.25).tolist() == [1, 2]
    # A rider and a horse overlap too, but are two.
    scores = torch.tensor([[0.6, 0.1], [0.1, 0.7], [0.1, 0.2]])
    boxes[1] = torch.tensor([0.2, 0.15, 0.6, 0.55])
    assert without_overlaps(scores, boxes, 0.25).tolist() == [1, 0]


def test_things_are_followed_where_they_cross_and_come_back() -> None:
    frames = [
        detections(
            (0, 0.1 + 0.1 * t, 0.4), (0, 0.9 - 0.1 * t, 0.6), *([(1, 0.5, 0.1)] * (t not in (3, 4)))
        )
        for t in range(9)
    ]
    tracks = follow(frames, 5)
    assert len(tracks) == 3
    tokens = features_of(tracks, 9, 3, 5)
    rightward, leftward = (
        next(k for k in range(3) if tokens[0, k, 0] > 0.5 and tokens[0, k, 5] == pytest.approx(x))
        for x in (0.1, 0.9)
    )
    assert torch.allclose(tokens[:, rightward, 5], torch.arange(9) * 0.1 + 0.1, atol=1e-5)
    assert torch.allclose(tokens[1:, leftward, -2], torch.full((8,), -0.1), atol=1e-5)
    other = 3 - rightward - leftward
    assert tokens[:, other, 5 + 5].tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert not tokens[3:5, other].any()


def test_a_token_tells_of_its_whole_track() -> None:
    """What it is, is what a fifth of the frames are sure of; when it comes and goes; its way."""
    frames = [
        detections(*([(0, 0.1 + 0.05 * t, 0.4)] if 4 <= t < 12 else []), (1, 0.5, 0.8))
        for t in range(16)
    ]
    told = track_features(features_of(follow(frames, 3), 16, 3, 5), 5)
    thing = int(told[6, :, 0].argmax())
    assert told[4:12, thing, 0].tolist() == pytest.approx([0.8] * 8)
    assert not torch.cat([told[:4, thing], told[12:, thing], told[:, 2]]).any()
    comes, goes, share, x, y, growth, first, last = told[..., -NUM_TRACK_FEATURES:].unbind(-1)
    assert [flags.nonzero().tolist() for flags in (comes, goes)] == [[[4, thing]], [[11, thing]]]
    assert share[6, thing] == 0.5
    assert [v[6, thing].item() for v in (x, y, growth)] == pytest.approx([0.35, 0, 0], abs=1e-5)
    assert (first[6, thing], last[6, thing]) == (0.25, 0.75)
    # Seen in two frames of sixteen, it is nothing that anybody should name.
    brief = [detections(*([(0, 0.1, 0.4)] if t in (4, 5) else [])) for t in range(16)]
    assert not track_features(features_of(follow(brief, 3), 16, 3, 5), 5)[..., :5].any()


def test_what_moves_fast_is_the_same_if_it_is_the_only_one_of_its_kind() -> None:
    assert len(follow([detections((2, 0.1, 0.5)), detections((2, 0.9, 0.5))], 5)) == 1
    two = [detections((2, 0.1, 0.5), (2, 0.3, 0.5)), detections((2, 0.9, 0.5))]
    assert len(follow(two, 5)) == 3


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    """A tiny model with object tokens, and motion and positions as the packaged one has."""
    torch.manual_seed(0)
    vision = {"model_type": "slowfast_convnext", "image_size": 32, "depths": [1, 1],
              "hidden_sizes": [8, 16], "num_channels": 5}  # fmt: skip
    fields = tiny_config().to_dict() | {
        "object_config": {"model_type": "slowfast_nanodet", "given": "objects", **SMALL},
        "vision_config": vision,
        "motion_features": True,
        "visual_position_encoding": True,
        "vision_chunk_frames": 8,
    }
    config = SlowFastConfig(**fields)
    model = SlowFastForConditionalGeneration(config).eval()
    processor = SlowFastProcessor.from_config(config, tiny_tokenizer(), num_frames=8)
    return SlowFast(model, processor)


def frames(seed: int, num_frames: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 48, 64, 3), np.uint8)


def test_a_track_is_one_fast_token_behind_those_of_the_video(assistant: SlowFast) -> None:
    """And a slow token in each frame. Frames are given whole, in the size the detector reads."""
    inputs = assistant.processor(text="<video>", videos=frames(0), return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, 8, 3, 64, 64)
    memory = assistant.encode(frames(0)).memory
    assert memory.fast_tokens.shape[0] == 4 * 4 + 3 == (inputs["mm_token_type_ids"] == 2).sum()
    assert memory.slow_keys[0].shape[1] == 8 * (4 + 3)


def test_objects_count_as_evidence_for_their_frame(assistant: SlowFast) -> None:
    """And for no cell of it. Gates that are closed let nothing be read."""
    question = {"question": "What?", "evidence": True, "max_new_tokens": 2}
    assert set(assistant.ask(frames(0), **question).evidence.weights) == {0.0}
    gates = [p for name, p in assistant.model.named_parameters() if name.endswith("gate.scale")]
    with torch.no_grad():
        for gate in gates:
            gate.fill_(1.0)
        told = assistant.ask(frames(0), **question).evidence
        for gate in gates:
            gate.zero_()
    assert sum(told.weights) == pytest.approx(1, abs=1e-4)
    assert len(told.weights) == 8
    assert np.shape(told.top[0].cells) == (2, 2)
    assert np.sum(told.top[0].cells) == pytest.approx(1, abs=1e-4)


def test_what_is_found_changes_the_memory(assistant: SlowFast) -> None:
    tower = assistant.model.model.object_tower
    before = assistant.encode(frames(0)).memory.fast_tokens
    threshold = tower.config.score_threshold
    try:
        tower.config.score_threshold = 1.1
        after = assistant.encode(frames(0)).memory.fast_tokens
    finally:
        tower.config.score_threshold = threshold
    assert torch.equal(before[:-3], after[:-3])
    assert not torch.allclose(before[-3:], after[-3:])


def test_frames_in_pieces_give_what_all_together_do(assistant: SlowFast) -> None:
    """Objects are followed from one piece to the next."""
    model = assistant.model.model
    pixels = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        whole = model.visual_tokens(pixels)
        pieces = model.visual_tokens(pixels.split(3), torch.arange(8))
    for one, other in zip(whole, pieces, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_an_image_has_objects_too(assistant: SlowFast) -> None:
    picture = frames(3, 1)[0]
    inputs = assistant.processor(text="<image> what?", images=picture, return_tensors="pt")
    with torch.no_grad():
        logits: Tensor = assistant.model(**inputs).logits
    assert logits.isfinite().all()


def test_saved_and_loaded_it_says_the_same(assistant: SlowFast, tmp_path: Path) -> None:
    assistant.model.save_pretrained(tmp_path)
    assistant.processor.save_pretrained(tmp_path)
    model = SlowFastForConditionalGeneration.from_pretrained(tmp_path).eval()
    again = SlowFast(model, SlowFastProcessor.from_pretrained(tmp_path))
    assert again.processor.token_layout == assistant.processor.token_layout
    assert again.model.config.object_config.given == "objects"
    question = {"question": "What?", "max_new_tokens": 6}
    assert again.ask(frames(1), **question).text == assistant.ask(frames(1), **question).text
