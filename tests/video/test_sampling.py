"""Which frames are chosen: the published rule, its properties, and the checks of arguments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowfast_mllm.video import VideoError, fps_indices, uniform_indices
from slowfast_mllm.video.sampling import SampleRequest

counts = st.integers(1, 5000)
clip_times = st.lists(st.floats(0.001, 5.0), min_size=0, max_size=60).map(
    lambda steps: np.concatenate([[0.0], np.cumsum(steps)])
)


@pytest.mark.parametrize(
    ("available", "wanted", "expected"),
    [
        (100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
        (7, 3, [0, 3, 6]),
        (1, 1, [0]),
        (3, 5, [0, 1, 2, 2, 2]),
        (5, 1, [0]),
    ],
)
def test_uniform_gives_the_published_positions(
    available: int, wanted: int, expected: list[int]
) -> None:
    assert uniform_indices(available, wanted).tolist() == expected


def test_uniform_gives_every_recorded_position(shared: Path) -> None:
    recorded = json.loads((shared / "golden" / "sampling.json").read_text())
    (table,) = recorded.values()
    for key, expected in table.items():
        available, wanted = map(int, key.split(","))
        assert uniform_indices(available, wanted).tolist() == expected


@given(available=counts, wanted=st.integers(1, 300))
def test_uniform_is_sorted_in_range_and_reaches_both_ends(available: int, wanted: int) -> None:
    chosen = uniform_indices(available, wanted)
    assert chosen.dtype == np.int64
    assert chosen.shape == (wanted,)
    assert np.all(np.diff(chosen) >= 0)
    assert chosen[0] == 0
    assert chosen[-1] == (available - 1 if wanted > 1 else 0)


@given(available=counts, extra=st.integers(0, 50))
def test_a_short_clip_gives_all_its_frames_and_repeats_the_last(available: int, extra: int) -> None:
    chosen = uniform_indices(available, available + extra)
    assert chosen.tolist() == [*range(available), *[available - 1] * extra]


@given(times=clip_times, fps=st.floats(0.05, 60.0))
def test_fps_gives_the_frame_on_screen_at_each_tick(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], fps: float
) -> None:
    chosen = fps_indices(times, fps)
    ticks = np.arange(chosen.size) / fps
    assert np.all(times[chosen] <= ticks + 0.001)
    later = np.append(times, np.inf)[chosen + 1]
    assert np.all(later > ticks)
    assert times[-1] < chosen.size / fps


@given(times=clip_times, fps=st.floats(0.05, 60.0), limit=st.integers(1, 20))
def test_fps_keeps_to_its_limit(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], fps: float, limit: int
) -> None:
    free, capped = fps_indices(times, fps), fps_indices(times, fps, limit)
    assert capped.tolist() == free[uniform_indices(free.size, min(free.size, limit))].tolist()


def test_fps_of_the_clip_itself_gives_each_frame_once() -> None:
    rounded_to_milliseconds = np.round(np.arange(90) / 30, 3)
    assert fps_indices(rounded_to_milliseconds, 30).tolist() == list(range(90))


def test_fps_beyond_the_limit_still_covers_the_clip() -> None:
    chosen = fps_indices(np.arange(40.0), 24, 80)
    assert chosen.size == 80
    assert np.bincount(chosen, minlength=40).max() <= 3


def test_fps_asking_for_absurdly_many_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fps=.*max_frames="):
        fps_indices(np.array([0.0, 1e6]), 1e9)


def test_bounds_take_start_and_leave_end() -> None:
    times = np.arange(10) / 10
    assert SampleRequest(start=0.2, end=0.5).indices(times, 99.0, "x").tolist() == [2, 3, 4]
    assert SampleRequest(start=0.9).indices(times, 99.0, "x").tolist() == [9]
    assert SampleRequest(num_frames=2, end=0.35).indices(times, 99.0, "x").tolist() == [0, 3]


def test_bounds_between_two_frames_give_the_one_on_screen() -> None:
    times = np.array([0.0, 10.0, 20.0])
    assert SampleRequest(start=12, end=15).indices(times, 99.0, "x").tolist() == [1]


def test_start_within_the_last_frame_gives_it_and_behind_it_is_an_error() -> None:
    times = np.array([0.0, 1.0])
    assert SampleRequest(start=1.5).indices(times, 2.0, "x").tolist() == [1]
    with pytest.raises(VideoError, match=r"x: start=2 is behind its end at 2.000 s"):
        SampleRequest(start=2).indices(times, 2.0, "x")


def test_end_before_the_first_frame_is_an_error() -> None:
    with pytest.raises(VideoError, match=r"x: end=1 is before its first frame at 5 s"):
        SampleRequest(end=1).indices(np.array([5.0, 6.0]), 7.0, "x")


def test_a_single_picture_has_no_duration_and_is_still_found() -> None:
    assert SampleRequest(num_frames=3, start=0).indices(np.zeros(1), 0.0, "x").tolist() == [0] * 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_frames": 4, "fps": 1.0}, "num_frames and fps"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"num_frames": 10**11}, "must be at most"),
        ({"fps": 0.0}, "fps=0.0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"max_frames": -1}, "max_frames=-1"),
        ({"start": -1.0}, "start=-1.0"),
        ({"start": 2.0, "end": 2.0}, "end=2.0"),
        ({"end": float("inf")}, "end=inf"),
        ({"at": []}, "at=\\[\\]"),
        ({"at": [1.0, -2.0]}, "from 0 on"),
        ({"at": "3"}, "list of seconds"),
        ({"at": [1.0], "num_frames": 2}, "leave out counts"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SampleRequest(**arguments)  # type: ignore[arg-type]


def test_instants_give_the_frames_on_screen_in_order() -> None:
    times = np.array([0.5, 1.0, 1.5, 2.0])
    chosen = SampleRequest(at=[1.99, 0.2, 1.0, 1.4996, 2.2]).indices(times, 2.5, "x")
    assert chosen.tolist() == [0, 1, 2, 2, 3]
    with pytest.raises(VideoError, match=r"at=2.5 is behind its end at 2.500 s"):
        SampleRequest(at=[2.5]).indices(times, 2.5, "x")


def test_max_frames_caps_every_choice() -> None:
    times = np.arange(100) / 10
    assert SampleRequest(max_frames=3).indices(times, 99.0, "x").tolist() == [0, 49, 99]
    assert SampleRequest(max_frames=200).indices(times, 99.0, "x").size == 100
    assert SampleRequest(num_frames=50, max_frames=3).indices(times, 99.0, "x").tolist() == [
        0,
        49,
        99,
    ]
