"""Saving and loading: native folders, official folders without processor files, quiet loading."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processor_parts import numbered_frames, tiny_config, tiny_processor, tiny_tokenizer
from transformers import AutoProcessor

from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor

OFFICIAL = Path(__file__).parents[1] / "model" / "golden" / "s1t4" / "config.json"


def assert_same(first: SlowFastProcessor, second: SlowFastProcessor) -> None:
    """Same settings and same results."""
    assert first.to_dict() == second.to_dict()
    assert first.chat_template == second.chat_template
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "video", "video": numbered_frames(9)},
                {"type": "image", "image": numbered_frames(9)[8]},
                {"type": "text", "text": "Hm?"},
            ],
        }
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    one, other = (p.apply_chat_template(messages, **options) for p in (first, second))
    assert set(one) == set(other)
    for name in one:
        assert torch.equal(one[name], other[name])


def test_save_and_load(tmp_path: Path) -> None:
    original = tiny_processor(num_frames=6, write_timestamps=True)
    original.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "processor_config.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "slowfast_shim.py",
    }
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["video_processor"]["num_frames"] == 6
    assert saved["video_processor"]["video_processor_type"] == "SlowFastVideoProcessor"
    assert saved["write_timestamps"] is True
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, SlowFastProcessor)
    assert_same(original, loaded)
    assert_same(original, SlowFastProcessor.from_pretrained(tmp_path))


def test_settings_can_be_changed_when_loading(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path, num_frames=9)
    assert loaded.video_processor.num_frames == 9
    by_rate = AutoProcessor.from_pretrained(tmp_path, fps=2.0).video_processor
    assert (by_rate.num_frames, by_rate.fps) == (None, 2.0)
    by_rate.save_pretrained(tmp_path / "rate")
    by_count = SlowFastVideoProcessor.from_pretrained(tmp_path / "rate", num_frames=3)
    assert by_count(np.zeros((5, 8, 8, 3), np.uint8))["pixel_values_videos"].shape[1] == 3


def test_placeholders_are_never_words() -> None:
    """A tokenizer does not count tokens among its special ones that were added later."""
    processor = tiny_processor()
    assert "<video>" not in processor.tokenizer.all_special_tokens
    assert {"<image>", "<video>"} < set(processor.control_tokens)


def test_packaged_defaults_are_the_published_settings() -> None:
    config = tiny_config(fast_temporal_pool=4, min_fast_frames=16)
    config.vision_config.image_size = 576
    processor = SlowFastProcessor.from_config(config, tiny_tokenizer())
    video = processor.video_processor
    assert (video.num_frames, video.fps) == (64, None)
    assert video.size["shortest_edge"] == 576
    assert (video.crop_size["height"], video.crop_size["width"]) == (576, 576)
    assert processor.image_processor.size == video.size
    assert np.allclose(video.image_mean, (0.48145466, 0.4578275, 0.40821073))
    assert (processor.fast_temporal_pool, processor.min_fast_frames) == (4, 16)


@pytest.mark.parametrize("with_tokenizer_config", [True, False])
def test_a_native_folder_without_processor_files(
    with_tokenizer_config: bool, tmp_path: Path
) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    if not with_tokenizer_config:
        (tmp_path / "tokenizer_config.json").unlink()
    tiny_config().save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.tokenizer.pad_token == "<|endoftext|>"
    assert loaded.tokenizer.eos_token == "<|im_end|>"
    assert loaded.tokenizer.padding_side == "left"
    assert_same(tiny_processor(num_frames=64), loaded)


def test_settings_of_a_folder_without_processor_files(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    config = tiny_config()
    config.num_frames = 24
    config.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).video_processor.num_frames == 24
    given = {"num_frames": 9, "padding_side": "right", "write_timestamps": True}
    loaded = AutoProcessor.from_pretrained(tmp_path, **given)
    assert loaded.video_processor.num_frames == 9
    assert loaded.tokenizer.padding_side == "right"
    assert loaded.write_timestamps is True


@pytest.mark.parametrize("with_tokenizer_config", [True, False])
def test_an_official_folder(with_tokenizer_config: bool, tmp_path: Path) -> None:
    official = json.loads(OFFICIAL.read_text())
    (tmp_path / "config.json").write_text(json.dumps(official))
    tiny_tokenizer().save_pretrained(tmp_path)
    if not with_tokenizer_config:
        (tmp_path / "tokenizer_config.json").unlink()
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, SlowFastProcessor)
    assert processor.fast_temporal_pool == official["fast_token_temporal_stride"]
    assert processor.min_fast_frames == official["min_fast_frames"]
    assert processor.slow_spatial_pool == official["mm_video_pooling_stride"]
    assert processor.video_processor.num_frames == 64
    edge = int(official["mm_vision_tower"].rpartition("-")[2])
    inputs = processor(text="<video> hm", videos=numbered_frames(2), return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, 64, 3, edge, edge)
    saved = tmp_path / "native"
    processor.save_pretrained(saved)
    assert AutoProcessor.from_pretrained(saved).to_dict() == processor.to_dict()


def test_other_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    tiny_config().text_config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'qwen2' checkpoint without processor_config\.json"):
        SlowFastProcessor.from_pretrained(tmp_path)


def test_loading_is_quiet_without_torchvision(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path)
    program = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import slowfast_mllm\n"
        "from transformers import AutoImageProcessor, AutoProcessor\n"
        "import numpy as np\n"
        f"processor = AutoProcessor.from_pretrained({str(tmp_path)!r})\n"
        f"image_processor = AutoImageProcessor.from_pretrained({str(tmp_path)!r})\n"
        "frames = np.zeros((4, 9, 9, 3), np.uint8)\n"
        "options = {'video_metadata': {'fps': 4}, 'return_tensors': 'pt'}\n"
        "processor(text='<video><image>', videos=frames, images=frames[0], **options)\n"
        "image_processor(frames[0])\n"
        "print(type(processor).__name__, type(image_processor).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stderr == ""
    assert done.stdout == "SlowFastProcessor CLIPImageProcessorPil\n"
