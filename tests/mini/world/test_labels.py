"""Dense labels agree with the script."""

import numpy as np
import pytest

from slowfast_mini.world import (
    COLORS,
    EVENTS,
    GLYPHS,
    SHAPES,
    dense_labels,
    frame_times,
    render,
    sample_script,
)
from slowfast_mini.world.geometry import evaluate

SEEDS = range(60)


@pytest.mark.parametrize("grid", [6, 9])
def test_shapes_and_ranges(grid: int) -> None:
    script = sample_script(4)
    labels = dense_labels(script, frame_times(script.duration, 16), grid)
    assert labels.shape.shape == labels.color.shape == labels.glyph.shape == (16, grid, grid)
    assert labels.object_motion.shape == (16, grid, grid, 2)
    assert labels.camera_motion.shape == (16, 4)
    assert labels.event.shape == (16, grid, grid)
    assert labels.cut.shape == labels.needle.shape == labels.steady.shape == (16,)
    assert labels.cut.dtype == bool


@pytest.mark.parametrize("seed", SEEDS)
def test_cells_name_objects_of_the_clip(seed: int) -> None:
    script = sample_script(seed)
    labels = dense_labels(script, frame_times(script.duration, 32))
    looks = {(SHAPES.index(o.shape), COLORS.index(o.color)) for o in script.objects}
    looks |= {
        (SHAPES.index(o.shape), COLORS.index(o.change.color)) for o in script.objects if o.change
    }
    if script.needle:
        looks |= {(SHAPES.index(script.needle.shape), COLORS.index(script.needle.color))}
    taken = labels.shape > 0
    assert np.array_equal(taken, labels.color > 0)
    found = set(zip(labels.shape[taken] - 1, labels.color[taken] - 1, strict=True))
    assert found == looks
    assert (labels.object_motion[~taken] == 0).all()
    assert labels.cut.sum() == len(script.cuts)
    glyphs = set(np.unique(labels.glyph)) - {0}
    expected = {1 + GLYPHS.index(script.flash.glyph)} if script.flash else set()
    assert glyphs == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cell_under_a_lonely_centre_has_its_shape(seed: int) -> None:
    script = sample_script(seed)
    times = frame_times(script.duration, 32)
    state = evaluate(script, times)
    labels = dense_labels(script, times)
    for index, obj in enumerate(script.objects):
        others = np.delete(state.center, index, axis=1)
        gaps = np.linalg.norm(others - state.center[:, index, None], axis=-1)
        clear = state.visible[:, index] & ~state.flash & (gaps > 0.4).all(axis=1)
        for t in np.flatnonzero(clear):
            x, y = (state.center[t, index] * 6).astype(int)
            assert labels.shape[t, y, x] == 1 + SHAPES.index(obj.shape)
            assert labels.color[t, y, x] == 1 + state.color[t, index]


def test_black_frames_have_no_labels() -> None:
    script = next(s for s in map(sample_script, range(200)) if s.fade.kind == "in")
    labels = dense_labels(script, np.array([0.0, 0.01, 2.0]))
    assert (labels.shape[:2] == 0).all()
    assert labels.shape[2].any()
    assert render(script, np.array([0.0]), 96).mean() < 12


def test_motion_is_screen_motion() -> None:
    script = next(
        s
        for s in map(sample_script, range(400))
        if s.camera.motion == "pan left" and all(o.motion == "still" for o in s.objects)
    )
    labels = dense_labels(script, np.array([1.5]))
    speed = script.camera.speed * 6
    assert labels.camera_motion[0] == pytest.approx([speed, 0, 0, 0], abs=1e-5)
    moves = labels.object_motion[labels.shape > 0]
    assert moves == pytest.approx(np.tile([speed, 0], (len(moves), 1)), abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_events_are_where_and_when_they_happen(seed: int) -> None:
    script = sample_script(seed)
    times = frame_times(script.duration, 32)
    labels, state = dense_labels(script, times), evaluate(script, times)
    for t, row, column in zip(*np.nonzero(labels.event), strict=True):
        event = EVENTS[labels.event[t, row, column] - 1]
        objects = [
            o for o in script.objects if 1 + SHAPES.index(o.shape) == labels.shape[t, row, column]
        ]
        if event == "appears":
            assert any(times[t - 1] < o.appear <= times[t] for o in objects)
        elif event == "leaves":
            assert any(times[t] < o.disappear <= times[t + 1] for o in objects)
        else:
            assert any(o.change and times[t - 1] < o.change.time <= times[t] for o in objects)
    assert np.array_equal(labels.needle, state.needle)
    assert not (labels.steady & (labels.cut | labels.needle)).any()
