"""How many frames `num_frames="auto"` looks at: by length, motion and memory, and it says why."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import Request, frame_choice
from slowfast_mllm.engine.frame_choice import Room, choose_num_frames
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks import caption_video, ground_video, score_video
from slowfast_mllm.tasks.caption import Captioning

CPU = torch.device("cpu")
ROOMY = Room(8, 1.0, 1.0, CPU, None)
PART = {"start": None, "end": None, "max_frames": 512, "frames_fps": 10.0, "clip": False}
RATES = {"still": 1.0, "slow": 1.5, "fast": 4.0}


def clip(motion: str, seconds: float) -> np.ndarray:
    """Ten frames a second that brighten and darken by so many levels a second."""
    speed = {"still": 0.0, "slow": 30.0, "fast": 100.0}[motion]
    levels = np.abs((np.arange(round(10 * seconds)) * speed / 10 + 120) % 240 - 120)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), 40, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("motion", RATES)
@pytest.mark.parametrize("seconds", [12.0, 40.0])
def test_longer_clips_and_faster_ones_get_more_frames(motion: str, seconds: float) -> None:
    choice = choose_num_frames(clip(motion, seconds), ROOMY, Reader(), **PART)
    assert choice.rate == pytest.approx(RATES[motion], abs=0.05)
    assert choice.num_frames == choice.wanted == math.ceil(round(seconds * choice.rate, 3))
    assert choice.limited_by is None
    part = choose_num_frames(
        clip(motion, seconds), ROOMY, Reader(), **PART | {"start": 2.0, "end": 11.0}
    )
    assert part.seconds == 9.0
    assert part.num_frames == max(8, part.wanted)


def test_no_fewer_than_the_model_is_made_for_and_no_more_than_there_are() -> None:
    assert choose_num_frames(clip("still", 2.0), ROOMY, Reader(), **PART).num_frames == 8
    slides = choose_num_frames(clip("fast", 4.0), ROOMY, Reader(), **PART | {"frames_fps": 0.5})
    assert (slides.wanted, slides.available, slides.num_frames) == (80, 40, 40)
    assert choose_num_frames(clip("still", 0.1), ROOMY, Reader(), **PART).num_frames == 8


@pytest.mark.parametrize(
    ("room", "most", "limit"),
    [
        (Room(8, 1.0, 10.0, CPU, 600), 30, "context"),
        (Room(8, 1e6, 1.0, CPU, None), 20, "memory"),
        (Room(32, 1e6, 1.0, CPU, None), 20, "memory"),  # rather few than none
        (Room(8, 1e9, 1.0, CPU, None), 1, "memory"),
        (ROOMY, 512, "max_frames"),
    ],
)
def test_no_more_than_fit(monkeypatch, room: Room, most: int, limit: str) -> None:
    monkeypatch.setattr(frame_choice, "free_memory", lambda device: 40_000_000)
    seconds = 200.0 if limit == "max_frames" else 40.0
    choice = choose_num_frames(clip("fast", seconds), room, Reader(), **PART)
    assert (choice.num_frames, choice.most, choice.limited_by) == (most, most, limit)


def test_a_machine_tells_what_is_free() -> None:
    free = frame_choice.free_memory(CPU)
    assert free is None or 1 << 20 < free < 1 << 50


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


def test_every_job_says_why_it_looked_at_so_many(packaged: SlowFast, monkeypatch) -> None:
    monkeypatch.setattr(frame_choice, "_SLOWEST", 3.0)  # more than the usual, of a short clip
    video, how = clip("still", 12.0), {"num_frames": "auto", "frames_fps": 10.0}
    answer = packaged.ask(video, "How many cuts are there?", **how)
    told = answer.to_dict()["settings"]
    assert told["num_frames"] == "auto"
    assert told["frame_choice"]["num_frames"] == len(answer.timestamps) == 36
    assert answer.timing["choose"] > 0
    (batched,) = packaged.generate([Request(video, "How many cuts are there?", options=how)])
    assert batched.frame_choice.num_frames == 36
    score = score_video(packaged, video, "a red star", **how)
    assert score.settings["frame_choice"]["num_frames"] == len(score.frames.indices) == 36
    short = clip("still", 4.0)
    caption = caption_video(packaged, short, Captioning(sampling=how))
    assert [c["num_frames"] for c in caption.settings["frame_choice"]] == [32]
    found = ground_video(packaged, short, "a red star", **how)
    assert found.settings["frame_choice"]["num_frames"] == len(found.frames.indices) == 12
    fewer = packaged.encode(video, max_frames=10, **how)
    assert (len(fewer.timestamps), fewer.frame_choice.limited_by) == (10, "max_frames")
    assert (
        "settings" not in packaged.ask(short, "How many cuts are there?", frames_fps=10.0).to_dict()
    )


def test_a_stream_is_read_once(packaged: SlowFast) -> None:
    still = io.BytesIO()
    Image.new("RGB", (64, 64)).save(still, "PNG")
    still.seek(0)
    assert len(packaged.encode(still, num_frames="auto").timestamps) == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": "many"}, "whole number or 'auto'"),
        ({"num_frames": "auto", "fps": 2.0}, "choose one"),
        ({"num_frames": "auto", "at": [1.0]}, "choose one"),
    ],
)
def test_what_cannot_be_meant_is_refused(packaged: SlowFast, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packaged.encode(clip("still", 1.0), frames_fps=10.0, **options)
