"""The official implementation's own numbers: visual tokens, logits and greedy answers.

The reduced copy in `golden/` runs always, the full data where it lies beside the checkout. Cases
whose pixel values the reduced copy leaves out start from their visual tokens.
"""

import copy
import itertools
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from golden_checkpoints import FULL, REDUCED, complete_folder
from safetensors.torch import load_file
from tiny_models import IMAGE_TOKEN, VIDEO_TOKEN, assert_close, greedy, pad
from torch import Tensor
from transformers import AutoModelForImageTextToText

from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.model.convnext import narrow_mlps
from slowfast_mllm.model.visual_tokens import fast_frames


def cases(needs: str = "", language_model: bool = False) -> pytest.MarkDecorator:
    """All cases of both copies, or those that have `needs` ("n_new": greedy answers).

    The reduced copy has no language model for `s2t4`.
    """
    found = []
    for source, kind in itertools.product((REDUCED, FULL), ("s1t4", "s2t4", "all_tokens")):
        lacks_language_model = source == REDUCED and kind == "s2t4"
        if not (source / kind).is_dir() or (language_model and lacks_language_model):
            continue
        label = "reduced" if source == REDUCED else "full"
        for name, about in json.loads((source / kind / "cases.json").read_text()).items():
            if not needs or needs in about:
                found.append(pytest.param(source, kind, name, id=f"{label}-{kind}-{name}"))
    return pytest.mark.parametrize(("source", "kind", "name"), found)


@cache
def tensors(source: Path, kind: str) -> dict[str, Tensor]:
    return load_file(source / kind / "cases.safetensors")


class Case:
    """One golden case, its prompts expanded to one placeholder per fast token."""

    def __init__(self, source: Path, kind: str, name: str) -> None:
        about = json.loads((source / kind / "cases.json").read_text())[name]
        self.tensors = {
            key.removeprefix(f"{name}."): value
            for key, value in tensors(source, kind).items()
            if key.startswith(f"{name}.")
        }
        self.count = len(about["frames"])
        self.is_video = len(about["frames"][0]) == 4
        self.num_frames = [shape[0] if self.is_video else 1 for shape in about["frames"]]
        self.valid_lengths = about["valid_lengths"]
        self.new_tokens = about.get("n_new", 0)

    def of_each_input(self, what: str) -> list[Tensor]:
        return [self.tensors[f"{what}.{k}"] for k in range(self.count)]

    @property
    def has_pixels(self) -> bool:
        return all(f"pixel_values.{k}" in self.tensors for k in range(self.count))

    def prompts(self) -> dict[str, Tensor]:
        placeholder = VIDEO_TOKEN if self.is_video else IMAGE_TOKEN
        lengths = iter(len(fast) for fast in self.of_each_input("fast_tokens"))
        masks, rows = self.tensors["attention_mask"].bool(), []
        for ids, mask in zip(self.tensors["input_ids"], masks, strict=True):
            row: list[int] = []
            for token in ids[mask].tolist():
                row += [placeholder] * next(lengths) if token == -200 else [token]
            rows.append(row)
        return pad(rows, side="right")

    def visual_inputs(self, model: SlowFastForConditionalGeneration) -> dict[str, object]:
        if self.has_pixels:
            pixels = [p.float() for p in self.of_each_input("pixel_values")]
            return {"pixel_values_videos" if self.is_video else "pixel_values": pixels}
        return {"video_memory": [self.memory(model, k) for k in range(self.count)]}

    @torch.no_grad()
    def memory(self, model: SlowFastForConditionalGeneration, k: int) -> VideoMemory:
        fast, slow = self.tensors[f"fast_tokens.{k}"], self.tensors[f"slow_tokens.{k}"]
        return model.model.remember(fast, slow, torch.zeros(1), is_video=self.is_video)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def _load(source: Path, kind: str) -> SlowFastForConditionalGeneration:
        folder = complete_folder(source, kind, tmp_path_factory.mktemp(kind))
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        model.config.image_token_id, model.config.video_token_id = IMAGE_TOKEN, VIDEO_TOKEN
        return model

    return _load


@cases()
def test_visual_tokens(load, source, kind, name) -> None:
    case, model = Case(source, kind, name), load(source, kind)
    for k in range(case.count):
        pixels = case.tensors.get(f"pixel_values.{k}")
        if pixels is None:
            continue
        frames = pixels.float() if case.is_video else pixels.float()[None]
        with torch.no_grad():
            fast, slow = model.model.visual_tokens(frames, is_video=case.is_video)
        assert_close(fast, case.tensors[f"fast_tokens.{k}"])
        assert_close(slow, case.tensors[f"slow_tokens.{k}"])


@cases()
def test_fast_tokens_follow_from_slow_tokens(load, source, kind, name) -> None:
    case, config = Case(source, kind, name), load(source, kind).config
    pooling = config.fast_frame_stride, config.fast_temporal_pool, config.min_fast_frames
    for k, num_frames in enumerate(case.num_frames):
        slow, expected = case.tensors[f"slow_tokens.{k}"], case.tensors[f"fast_tokens.{k}"]
        maps = slow.unflatten(0, (num_frames, 1, -1))
        fast = fast_frames(maps, *pooling) if case.is_video else maps
        assert_close(fast.flatten(0, 2), expected)


@cases(language_model=True)
def test_logits(load, source, kind, name) -> None:
    case, model = Case(source, kind, name), load(source, kind)
    with torch.no_grad():
        logits = model(**case.prompts(), **case.visual_inputs(model)).logits
    for row, length in enumerate(case.valid_lengths):
        assert_close(logits[row, :length], case.tensors["logits"][row, :length])


@pytest.mark.parametrize("path", ["cached", "uncached"])
@cases("n_new", language_model=True)
def test_answer_when_every_token_attends(load, source, kind, name, path) -> None:
    case, model = Case(source, kind, name), load(source, kind)
    inputs = {**case.prompts(), **case.visual_inputs(model), "use_cache": path == "cached"}
    answer = greedy(model, case.new_tokens, **inputs)
    assert answer[0].tolist() == case.tensors["greedy_full_attention"].tolist()


@cases("n_new", language_model=True)
def test_answer_with_slow_tokens_in_int8(load, source, kind, name) -> None:
    case, model = Case(source, kind, name), load(source, kind)
    memories = [case.memory(model, k) for k in range(case.count)]
    narrow = {**case.prompts(), "video_memory": [memory.narrowed() for memory in memories]}
    with torch.no_grad():
        logits = model(**narrow).logits
        exact = model(**case.prompts(), video_memory=memories).logits
    assert (logits - exact).norm() < 2e-3 * exact.norm()
    answer = greedy(model, case.new_tokens, **narrow)
    assert answer[0].tolist() == case.tensors["greedy_full_attention"].tolist()


@cases("n_new", language_model=True)
def test_answer_with_the_tower_in_int8(load, source, kind, name) -> None:
    case, model = Case(source, kind, name), copy.deepcopy(load(source, kind))
    if not case.has_pixels:
        pytest.skip("starts from visual tokens")
    narrow_mlps(model.model.vision_tower)
    for k, pixels in enumerate(case.of_each_input("pixel_values")):
        frames = pixels.float() if case.is_video else pixels.float()[None]
        with torch.no_grad():
            slow = model.model.visual_tokens(frames, is_video=case.is_video)[1]
        cosines = torch.cosine_similarity(slow, case.tensors[f"slow_tokens.{k}"], dim=-1)
        assert cosines.min() > 0.999
    answer = greedy(model, case.new_tokens, **case.prompts(), **case.visual_inputs(model))
    assert answer[0].tolist() == case.tensors["greedy_full_attention"].tolist()


@cases("n_new", language_model=True)
def test_answer_of_the_official_generate(load, source, kind, name, monkeypatch) -> None:
    """There only the prompt attends the slow tokens."""
    case, model = Case(source, kind, name), load(source, kind)
    monkeypatch.setattr(model.config, "slow_attention_for_generated_tokens", False)
    answer = greedy(model, case.new_tokens, **case.prompts(), **case.visual_inputs(model))
    assert answer[0].tolist() == case.tensors["greedy_reference_decode"].tolist()
