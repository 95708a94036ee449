"""Errors name the argument or the file, in one line, and show what would be right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processor_parts import EDGE, tiny_tokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor
from slowfast_mllm.video import VideoError

FRAMES = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_frmes": 8}, ["'num_frmes'", "did you mean 'num_frames'", "Example: processor("]),
        ({"zzz": 8}, ["'zzz'", "known are", "max_frames", "Example: processor("]),
        ({"num_frames": "8"}, ["num_frames", "int", "Example: processor("]),
        ({"num_frames": 0}, ["num_frames"]),
        ({"num_frames": 2, "fps": 1.0}, ["num_frames", "fps", "together"]),
        ({"start": -1.0}, ["start=-1.0", "for example"]),
        ({"start": 2.0, "end": 1.0}, ["end=1.0", "start=2.0"]),
        ({"resample": 0}, ["resample=0", "3 (bicubic)"]),
        ({"size": {"longest_edge": 9}}, ["size=", "'shortest_edge'"]),
        ({"video_metadata": [{"fps": 1}, {"fps": 2}]}, ["video_metadata: 2", "1 videos"]),
        (
            {"video_metadata": {"fps": 1, "frames_indices": [0]}},
            ["video_metadata", "names 1 frames"],
        ),
    ],
)
def test_bad_arguments(
    arguments: dict[str, Any], words: list[str], processor: SlowFastProcessor
) -> None:
    for call in (
        lambda: processor(text="<video>", videos=FRAMES, **arguments),
        lambda: processor.video_processor(FRAMES, **arguments),
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"text": "<video> hm"}, ["<video>", "text has 1, videos has 0", "videos=["]),
        ({"text": "<image> hm"}, ["<image>", "text has 1, images has 0", "images=["]),
        ({"text": "hm", "videos": FRAMES}, ["text has 0, videos has 1"]),
        ({"text": "<video>", "videos": [FRAMES, FRAMES]}, ["text has 1, videos has 2"]),
        ({"text": ["<video>", "x<video>"], "videos": [FRAMES]}, ["text has 2, videos has 1"]),
        ({"text": "hm", "images": FRAMES[0]}, ["text has 0, images has 1"]),
        ({"text": [3]}, ["text must be a string"]),
        ({}, ["text=, images= or videos="]),
        ({"text": []}, ["text=, images= or videos="]),
    ],
)
def test_inputs_that_do_not_match(
    inputs: dict[str, Any], words: list[str], processor: SlowFastProcessor
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        processor(**inputs)
    assert all(word in str(caught.value) for word in words), caught.value


def test_files_that_cannot_be_read(processor: SlowFastProcessor, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"this is no video at all" * 9)
    for name, kind in (("missing.mp4", "videos"), (str(noise), "videos"), ("no.jpg", "images")):
        token = {"videos": "<video>", "images": "<image>"}[kind]
        with pytest.raises(VideoError) as caught:
            processor(text=token, **{kind: [name]})
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_truncated_prompt_is_refused(processor: SlowFastProcessor) -> None:
    with pytest.raises(ValueError, match="max_length"):
        processor(text="<video> hm", videos=FRAMES, truncation=True, max_length=4)


def test_a_tokenizer_without_placeholders_is_refused() -> None:
    size = {"size": {"shortest_edge": EDGE}, "crop_size": EDGE}
    with pytest.raises(ValueError, match=r"lacks the token <image>.*from_config"):
        SlowFastProcessor(
            CLIPImageProcessorPil(**size), tiny_tokenizer(), SlowFastVideoProcessor(**size)
        )


def test_something_else_is_no_video_processor(processor: SlowFastProcessor) -> None:
    with pytest.raises(TypeError, match="video_processor: got int"):
        SlowFastProcessor(processor.image_processor, processor.tokenizer, 3)
