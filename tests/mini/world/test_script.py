"""Scripts: the same number gives the same clip, and every clip keeps the rules of the world."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from slowfast_mini.world import CAMERA_MOTIONS, COLORS, SHAPES, Script, frame_times, sample_script
from slowfast_mini.world.geometry import camera_at, evaluate, on_screen
from slowfast_mini.world.script import HOP_SECONDS, HOP_SPACING, JOLT_SECONDS, MOST_CUTS

SCRIPTS = [sample_script(seed) for seed in range(300)]


def test_same_seed_same_script() -> None:
    assert [sample_script(seed) for seed in range(20)] == SCRIPTS[:20]
    assert SCRIPTS[0] != SCRIPTS[1]


@pytest.mark.parametrize("script", SCRIPTS[:100], ids=lambda s: str(s.seed))
def test_times_are_in_order(script: Script) -> None:
    assert 4 <= script.duration <= 12
    bounds = [0.0, *script.cuts, script.duration]
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(bounds))
    assert 1 <= len(script.objects) <= 4
    for obj in script.objects:
        assert 0 <= obj.appear < obj.disappear <= script.duration
        assert len(obj.positions) == len(script.shots)
        if obj.change is not None:
            assert obj.appear < obj.change.time < obj.disappear
            assert obj.change.color != obj.color
    late = sorted(o.appear for o in script.objects if o.appear > 0)
    assert all(b - a >= 1.0 for a, b in itertools.pairwise([0.0, *late][1:]))
    assert not late or late[0] >= 0.8


def test_looks_are_never_repeated_within_a_clip() -> None:
    for script in SCRIPTS:
        looks = [(o.color, o.shape) for o in script.objects]
        looks += [(o.change.color, o.shape) for o in script.objects if o.change]
        assert len(set(looks)) == len(looks)


def test_objects_are_seen_while_they_are_there() -> None:
    shares = []
    for script in SCRIPTS:
        state = evaluate(script, frame_times(script.duration, 32))
        lit = state.gain > 0.3
        for index in range(len(script.objects)):
            there = state.alive[:, index] & lit
            assert there.sum() >= 2
            shares.append(float(state.visible[there, index].mean()))
    assert min(shares) > 0.4
    assert np.mean(shares) > 0.97


def test_a_flash_is_seen_once_or_twice_in_32_frames() -> None:
    for script in SCRIPTS:
        seen = evaluate(script, frame_times(script.duration, 32)).flash.sum()
        assert seen in (1, 2) if script.flash else seen == 0


def test_an_inserted_picture_is_seen_once_or_twice_and_alone() -> None:
    for script in SCRIPTS:
        state = evaluate(script, frame_times(script.duration, 32))
        assert state.needle.sum() in ((1, 2) if script.needle else (0,))
        assert not (state.needle & state.flash).any()
        assert not state.visible[state.needle].any()
        if script.needle:
            assert script.needle.shape not in {o.shape for o in script.objects}
            assert script.needle.color not in {o.color for o in script.objects}


def test_jumps_go_up_and_come_down() -> None:
    found = 0
    for script in SCRIPTS:
        for index, obj in enumerate(script.objects):
            for hop in obj.hops:
                times = np.array([hop, hop + HOP_SECONDS / 2, hop + HOP_SECONDS])
                if script.camera.rests:
                    start, top, end = evaluate(script, times).center[:, index, 1]
                    assert start - top == pytest.approx(obj.hop_height)
                    assert end == pytest.approx(start)
                    found += 1
            assert all(b - a >= HOP_SPACING - 1e-9 for a, b in itertools.pairwise(obj.hops))
    assert found > 15


def test_a_pushed_camera_swings_back() -> None:
    pushed = [s for s in SCRIPTS if s.camera.jolts]
    assert pushed
    for script in pushed:
        (time, *push), *_ = script.camera.jolts
        alone = replace(script, camera=replace(script.camera, jolts=((time, *push),), shake=0.0))
        times = time + JOLT_SECONDS * np.array([0.0, 0.15, 0.3, 1.0])
        shot = np.zeros(4, dtype=np.int64)
        way = [camera_at(alone, times, shot, shake)[0] for shake in (True, False)]
        away = np.linalg.norm(way[0] - way[1], axis=1) / np.linalg.norm(push)
        assert away == pytest.approx([0.0, 1.0, 0.8, 0.0], abs=0.15)


def test_rolling_turns_the_picture_against_the_camera() -> None:
    script = next(s for s in SCRIPTS if s.camera.motion == "roll clockwise")
    start, end = script.shots[0].start, script.shots[0].end - 1e-6
    shot = np.zeros(2, dtype=np.int64)
    right_of_middle = np.tile([0.8, 0.5], (2, 1))
    first, last = on_screen(script, right_of_middle, np.array([start, end]), shot, shake=False)
    assert last[1] < first[1]  # the picture turns counterclockwise: its right side goes up


def test_objects_drift_against_the_camera() -> None:
    pans = (s for s in SCRIPTS if s.camera.motion == "pan right" and not s.camera.jolts)
    script = next(s for s in pans if s.camera.shake == 0)
    index = next(i for i, o in enumerate(script.objects) if not o.slides_in)
    end = script.shots[0].end - 1e-6
    state = evaluate(script, np.array([0.0, end]))
    moved = state.center[1, index] - state.center[0, index]
    own = np.array(script.objects[index].velocity) * end
    assert moved == pytest.approx(own - np.array([script.camera.speed * end, 0.0]), abs=1e-4)


def test_zooming_in_makes_everything_larger() -> None:
    script = next(s for s in SCRIPTS if s.camera.motion == "zoom in")
    size = evaluate(script, np.linspace(0, script.shots[0].end - 1e-6, 5)).size
    assert (np.diff(size, axis=0) > 0).all()


def test_variety() -> None:
    assert {s.camera.motion for s in SCRIPTS} == set(CAMERA_MOTIONS)
    assert {len(s.cuts) for s in SCRIPTS} == set(range(MOST_CUTS + 1))
    assert {s.fade.kind for s in SCRIPTS} == {"none", "in", "out"}
    assert {o.shape for s in SCRIPTS for o in s.objects} == set(SHAPES)
    assert {o.color for s in SCRIPTS for o in s.objects} == set(COLORS)
    assert any(o.change for s in SCRIPTS for o in s.objects)
