"""Exported models give what their checkpoints give, and an export that would not is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from slowfast_mini import WEIGHTS
from slowfast_mllm import auto, load
from slowfast_mllm.engine import (
    MemoryCache,
    ModelError,
    Request,
    SlowFast,
    export,
    export_model,
)
from slowfast_mllm.engine.quick import recall, take_note
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor

auto.register()
CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
QUESTIONS = ("What happens?", "What color is the triangle, and where does it go?")


def has_extra() -> bool:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        return False
    return True


needs_extra = pytest.mark.skipif(not has_extra(), reason="needs the extra `export`")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A tiny model with open gates, so that slow tokens matter."""
    text = {"model_type": "qwen3", "vocab_size": 3072, "hidden_size": 32, "head_dim": 8}
    text |= {"intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    vision = {"model_type": "slowfast_convnext", "image_size": 32, "depths": [1, 1]}
    config = SlowFastConfig(
        text_config=text,
        vision_config=vision | {"hidden_sizes": [8, 16]},
        hybrid_layers=[0, 2],
        fast_temporal_pool=4,
        min_fast_frames=3,
        image_token_id=3,
        video_token_id=4,
    )
    torch.manual_seed(0)
    model = SlowFastForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
            if name.endswith("gate.scale"):
                weight.add_(1.0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    SlowFastProcessor.from_config(config, tokenizer, num_frames=8).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "new"
    export_model(checkpoint, folder)
    return folder


@needs_extra
@pytest.mark.parametrize("num_frames", [1, 4, 23])
def test_memories_of_any_number_of_frames_are_the_same(checkpoint, exported, num_frames) -> None:
    frames = torch.randn(num_frames, 3, 32, 32)
    ours, theirs = (load(path).model.encode_video(frames) for path in (exported, checkpoint))
    torch.testing.assert_close(ours.fast_tokens, theirs.fast_tokens, atol=1e-4, rtol=1e-3)
    for side in ("slow_keys", "slow_values"):
        torch.testing.assert_close(getattr(ours, side), getattr(theirs, side), atol=1e-4, rtol=1e-3)


def answers(assistant: SlowFast) -> list[str]:
    """Alone, by beams, in a batch of several lengths, in turns, and by likelihood."""
    how = {"max_new_tokens": 6, "num_frames": 5}
    told = [assistant.ask(CLIP, QUESTIONS[0], num_beams=beams, **how).text for beams in (1, 3)]
    wanted = [Request(CLIP, question, options=how) for question in QUESTIONS]
    told += [answer.text for answer in assistant.generate(wanted)]
    chat = assistant.chat(CLIP, num_frames=5)
    told += [chat.ask(question, max_new_tokens=6).text for question in QUESTIONS]
    likely = assistant.likelihoods(CLIP, QUESTIONS[0], ["Yes.", "No.", "It turns."], num_frames=5)
    return [*told, f"{likely[0].log_probability - likely[2].log_probability:.2f}"]


@needs_extra
def test_an_exported_model_answers_like_its_checkpoint(checkpoint, exported, tmp_path) -> None:
    theirs, ours = load(checkpoint), load(exported)
    assert answers(ours) == answers(theirs)
    ours.index(CLIP, tmp_path / "clip.sfmem", num_frames=5)  # and their memories are one kind
    asked = [x.ask(tmp_path / "clip.sfmem", QUESTIONS[0], max_new_tokens=6) for x in (ours, theirs)]
    assert asked[0].text == asked[1].text


@needs_extra
def test_what_an_exported_model_has_seen_it_answers_without_torch(exported, tmp_path) -> None:
    model = load(exported, cache=MemoryCache(tmp_path / "memories"))
    model.encode(CLIP, num_frames=5)
    take_note(model, str(exported), tmp_path / "memories")
    for question in QUESTIONS:
        found = recall(str(exported), CLIP, tmp_path / "memories", num_frames=5)
        assert found is not None
        answer = found.ask(question, max_new_tokens=6)
        assert answer.text == model.ask(CLIP, question, num_frames=5, max_new_tokens=6).text


@needs_extra
def test_what_an_exported_model_cannot_do_is_said(exported) -> None:
    model = load(exported)
    assert not model.capabilities.evidence
    with pytest.raises(ValueError, match="does not tell what it read"):
        model.ask(CLIP, QUESTIONS[0], evidence=True)
    with pytest.raises(ModelError, match="leave out --device"):
        load(exported, quantize="int8")


class Twice(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return 2 * hidden


@needs_extra
def test_a_graph_that_differs_from_torch_is_not_left_behind(
    checkpoint, tmp_path, monkeypatch
) -> None:
    write = export._write

    def wrong(path: Path, graph: nn.Module, *rest: object) -> None:
        write(path, nn.Sequential(graph, Twice()), *rest)

    monkeypatch.setattr(export, "_write", wrong)
    with pytest.raises(ValueError, match="exported tower differs from torch"):
        export_model(checkpoint, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@needs_extra
def test_another_format_and_damaged_files_are_refused(exported, tmp_path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    (folder / "tower.onnx").write_bytes(b"\0")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        load(folder)


def test_without_the_extra_one_line_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "export.json").write_text("{}")
    for act in (lambda: export_model("slowfast-mini", tmp_path / "new"), lambda: load(tmp_path)):
        with pytest.raises(ModelError, match=r"pip install 'slowfast-mllm\[export\]'"):
            act()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(export, "needs_packages", lambda *names: None)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="not empty"):
        export_model("slowfast-mini", tmp_path)
