"""What happens one after the other: like windows are one event, whose edges are looked for."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from slowfast_mini import world
from slowfast_mllm import load
from slowfast_mllm.tasks import find_events
from slowfast_mllm.tasks.events import Event

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
RATE = 8


def cover(events: list[Event], start: float, end: float) -> None:
    times = [start, *(event.end for event in events)]
    assert [event.start for event in events] == pytest.approx(times[:-1])
    assert times[-1] == pytest.approx(end)
    assert all(event.start < event.end for event in events)
    assert all(one.text != other.text for one, other in pairwise(events))


def test_where_a_clip_becomes_another_an_event_begins() -> None:
    """Not at an edge of the windows: these are 1 s long."""
    one, other = (world.render(world.sample_script(n), np.arange(20) / RATE, 128) for n in (3, 5))
    found = find_events(load(device="cpu"), np.concatenate([one, other]), frames_fps=RATE)
    cover(found.events, 0, 5)
    assert any(event.start == pytest.approx(2.5, abs=0.3) for event in found.events)


def test_what_stays_the_same_is_one_event() -> None:
    still = np.repeat(world.render(world.sample_script(3), np.zeros(1), 128), 24, axis=0)
    found = find_events(load(device="cpu"), still, frames_fps=RATE)
    assert len(found.events) == 1
    cover(found.events, 0, 3)


def test_any_model_does_it(tmp_path: Path) -> None:
    other = load(tiny_checkpoints.write("llava_onevision", tmp_path / "other"))
    found = find_events(other, CLIP, window=2.0, max_new_tokens=4, num_frames=8, start=1.0)
    cover(found.events, found.frames.timestamps[0], found.video.duration)
    with pytest.raises(ValueError, match=r"at least 0\.1"):
        find_events(other, CLIP, window=0)
