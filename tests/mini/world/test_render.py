"""Pixels: they repeat, agree with the script, and do not depend on what else is drawn."""

import colorsys
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slowfast_mini.world import Script, frame_times, render, sample_clip, sample_script, write_video
from slowfast_mini.world.facts import gather
from slowfast_mini.world.geometry import evaluate
from slowfast_mini.world.render import sample_look
from slowfast_mini.world.script import DIRECTIONS

HUES = {"red": 0, "orange": 29, "yellow": 55, "green": 122, "blue": 222, "purple": 284}


def clip_of(seed: int) -> tuple[Script, npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    script = sample_script(seed)
    times = frame_times(script.duration, 32)
    return script, times, render(script, times, 96)


def test_same_seed_same_pixels() -> None:
    first, second = sample_clip(5), sample_clip(5)
    assert first.frames.shape == (32, 96, 96, 3)
    assert first.frames.dtype == np.uint8
    assert np.array_equal(first.frames, second.frames)
    assert first.questions == second.questions
    assert not np.array_equal(first.frames, sample_clip(6).frames)


@pytest.mark.parametrize("seed", range(12))
def test_a_frame_does_not_depend_on_the_other_frames(seed: int) -> None:
    script, times, frames = clip_of(seed)
    some = render(script, times[[3, 17, 30]], 96)
    # Sums over batches of other shapes may round differently, never visibly.
    assert np.abs(some.astype(int) - frames[[3, 17, 30]].astype(int)).max() <= 1


@pytest.mark.parametrize("seed", range(12))
def test_other_sizes_show_the_same_picture(seed: int) -> None:
    script, times, frames = clip_of(seed)
    large = render(script, times[::8], 192).astype(float)
    small = large.reshape(4, 96, 2, 96, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - frames[::8]).mean() < 9.0


def test_a_camera_sets_its_exposure_anew() -> None:
    found = 0
    for script in (s for s in map(sample_script, range(3000)) if gather(s, np.zeros(1)).quiet):
        look = sample_look(script.seed)
        if not look.exposures or look.flicker[0]:
            continue
        time, level = look.exposures[0]
        if level > 1 or time > script.duration - 0.3:
            continue
        before, after = render(script, np.array([time - 0.01, time + 0.21]), 96).astype(float)
        assert after.mean() / before.mean() == pytest.approx(level, abs=0.04)
        found += 1
    assert found >= 5


@pytest.mark.parametrize("size", [32, 50, 100, 224])
def test_any_size(size: int) -> None:
    script = sample_script(2)
    assert render(script, np.array([1.0]), size).shape == (1, size, size, 3)


def test_no_frames() -> None:
    assert render(sample_script(2), np.array([]), 96).shape == (0, 96, 96, 3)


def _hue_distance(rgb: npt.NDArray[np.float64], hue: float) -> float:
    found = 360 * colorsys.rgb_to_hsv(*(rgb / 255))[0]
    return float(abs((found - hue + 180) % 360 - 180))


def test_objects_have_the_colour_of_their_name() -> None:
    checked = 0
    for seed in range(60):
        script, _, frames = clip_of(seed)
        state = evaluate(script, frame_times(script.duration, 32))
        for index, obj in enumerate(script.objects):
            if obj.shape not in ("circle", "square", "star", "cross") or obj.change:
                continue
            clear = state.visible[:, index] & ~state.flash & (state.gain > 0.9)
            if sample_look(seed).posts:
                continue
            others = np.delete(state.center, index, axis=1)
            gaps = np.linalg.norm(others - state.center[:, index, None], axis=-1)
            clear &= (gaps > 0.3).all(axis=1)
            clear &= ((state.center[:, index] > 0.05) & (state.center[:, index] < 0.95)).all(1)
            for t in np.flatnonzero(clear)[::6]:
                x, y = (state.center[t, index] * 96).astype(int)
                rgb = frames[t, y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0)
                checked += 1
                if obj.color == "white":
                    assert rgb.min() > 120
                elif obj.color == "black":
                    assert rgb.max() < 90
                else:
                    assert _hue_distance(rgb, HUES[obj.color]) < 32, (seed, index, obj.color)
    assert checked > 100


def test_the_flashed_glyph_is_in_the_pixels() -> None:
    for seed in range(40):
        script, times, frames = clip_of(seed)
        if script.flash is None or script.camera.motion != "still":
            continue
        seen = evaluate(script, times).flash
        x, y = (np.array(script.flash.position) * 96).astype(int)
        half = int(script.flash.size * 48)
        box = frames[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half].astype(float)
        first = int(np.flatnonzero(seen)[0])
        change = np.abs(box[first] - box[first - 1]).mean()
        before = np.abs(box[first - 1] - box[first - 2]).mean()
        assert change > 12
        assert change > before or np.isclose(change, before, rtol=0.3)


def test_fades_reach_black() -> None:
    for kind, frame in (("in", 0), ("out", -1)):
        script = next(s for s in map(sample_script, range(200)) if s.fade.kind == kind)
        times = np.linspace(0, script.duration, 20)
        assert render(script, times, 48)[frame].mean() < 12


def test_a_pan_moves_the_background_against_the_camera() -> None:
    found = 0
    for seed in range(150):
        script = sample_script(seed)
        kind, _, way = script.camera.motion.partition(" ")
        shaken = script.camera.shake > 0 or script.camera.jolts
        if kind not in ("pan", "tilt") or shaken or script.fade.kind != "none":
            continue
        pixels = 4
        step = pixels / 96 / script.camera.speed
        if script.shots[0].end < step:
            continue
        whole, later = render(script, np.array([0.0, step]), 96).astype(float)
        dx, dy = (int(d) * pixels for d in DIRECTIONS[way])
        b = later[20:76, 20:76]
        moved = whole[20 + dy : 76 + dy, 20 + dx : 76 + dx]
        away = whole[20 - dy : 76 - dy, 20 - dx : 76 - dx]
        assert np.median(np.abs(b - moved)) <= np.median(np.abs(b - away)), seed
        found += 1
    assert found > 10


def test_own_photos_become_backgrounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(photo)
    changed = []
    for seed in range(12):
        script = sample_script(seed)
        times = np.array([shot.middle for shot in script.shots])
        own = render(script, times, 96, photos=(str(photo),))
        assert np.array_equal(own, render(script, times, 96, photos=(str(photo),)))
        plain = render(script, times, 96)
        changed += [not np.array_equal(a, b) for a, b in zip(own, plain, strict=True)]
    assert 0.2 < np.mean(changed) < 0.8  # about half of the shots


def test_video_file(tmp_path: pytest.TempPathFactory) -> None:
    script = sample_script(1)
    path = f"{tmp_path}/clip.mp4"
    write_video(script, path, fps=10, size=64)
    with av.open(path) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(decoded) == int(script.duration * 10)
    drawn = render(script, np.arange(len(decoded)) / 10, 64)
    assert np.abs(np.stack(decoded).astype(float) - drawn).mean() < 14
    with pytest.raises(ValueError, match="even"):
        write_video(script, path, size=65)
