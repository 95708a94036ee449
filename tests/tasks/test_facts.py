"""Facts: how a camera moved, fades, freezes, black and light, on pictures whose truth is known."""

import json
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from slowfast_cli.main import main
from slowfast_mllm.tasks import cuts, measure_facts
from slowfast_mllm.tasks.camera import Camera
from slowfast_mllm.tasks.cuts import Boundary, Transitions
from slowfast_mllm.tasks.facts_in_words import facts_in_words
from slowfast_mllm.tasks.light import Light
from slowfast_mllm.video import VideoError

FPS = 10
SIZE = (128, 72)


@pytest.fixture(autouse=True)
def without_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""

    def missing() -> None:
        raise ValueError("cuts are found by what is not installed")

    monkeypatch.setattr(cuts, "load_network", missing)


def scene(seed: int = 0) -> Image.Image:
    """A large picture with something to see at every scale."""
    draw = np.random.default_rng(seed)
    whole = np.zeros((400, 640, 3))
    for side in (5, 20, 80):
        noise = draw.integers(0, 80, (400 // side, 640 // side, 3)).astype(np.uint8)
        whole += np.asarray(Image.fromarray(noise).resize((640, 400), Image.Resampling.BICUBIC))
    return Image.fromarray(whole.astype(np.uint8))


def filmed(path: list[tuple[float, float, float, float]], seed: int = 0) -> np.ndarray:
    """Frames (T, H, W, 3) of a camera whose middle is at (x, y), in widths of the picture.

    Args:
        path: of each frame x, y, zoom, and degrees by which the camera is turned clockwise.
    """
    whole, (width, height) = scene(seed), SIZE
    frames = []
    for x, y, zoom, turn in path:
        angle = np.radians(turn)
        a, b = np.cos(angle) / zoom, -np.sin(angle) / zoom
        middle = 320 + x * width, 200 + y * width
        left = middle[0] - a * width / 2 - b * height / 2
        top = middle[1] + b * width / 2 - a * height / 2
        view = (a, b, left, -b, a, top)
        frame = whole.transform(SIZE, Image.Transform.AFFINE, view, Image.Resampling.BICUBIC)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def along(frames: int, **ends: float) -> list[tuple[float, float, float, float]]:
    """From the middle, evenly, to where `ends` says."""
    still = {"x": 0.0, "y": 0.0, "zoom": 1.0, "turn": 0.0}
    steps = [np.linspace(at, ends.get(name, at), frames) for name, at in still.items()]
    return list(zip(*steps, strict=True))


@pytest.mark.parametrize(
    ("ends", "kind", "direction", "amount"),
    [
        ({"x": 0.4}, "pan", "right", 0.4),
        ({"x": -0.1}, "pan", "left", 0.1),
        ({"y": 0.3}, "tilt", "down", 0.3),
        ({"y": -0.3}, "tilt", "up", 0.3),
        ({"zoom": 1.3}, "zoom", "in", 1.3),
        ({"zoom": 0.8}, "zoom", "out", 0.8),
        ({"turn": 25.0}, "roll", "clockwise", 25.0),
        ({"turn": -25.0}, "roll", "counter-clockwise", 25.0),
    ],
)
def test_a_camera_that_moves(ends, kind, direction, amount) -> None:
    (shot,) = measure_facts(filmed(along(21, **ends)), frames_fps=FPS).shots
    (move,) = shot.camera
    assert (move.kind, move.direction) == (kind, direction)
    assert move.amount == pytest.approx(amount, rel=0.08)
    assert (move.start, move.end) == (0.0, 2.1)


def test_what_moves_before_a_camera_is_not_the_camera() -> None:
    frames = filmed(along(20))
    for number, frame in enumerate(frames):
        left = 4 * number
        frame[10:60, left : left + 50] = np.asarray(scene(1))[10:60, 100:150]
    (shot,) = measure_facts(frames, frames_fps=FPS).shots
    assert shot.camera == []


def test_a_camera_that_stands_still_while_the_light_changes() -> None:
    frames = filmed(along(16)) * np.linspace(0.6, 1.2, 16)[:, None, None, None]
    (shot,) = measure_facts(frames.clip(0, 255).astype(np.uint8), frames_fps=FPS).shots
    assert shot.camera == []


def test_a_camera_in_hands() -> None:
    sway = np.random.default_rng(3).normal(0, 0.006, (24, 2))
    path = [(x, y, 1.0, 0.0) for x, y in sway]
    (shot,) = measure_facts(filmed(path), frames_fps=FPS).shots
    assert [move.kind for move in shot.camera] == ["hand-held"]


def test_a_camera_that_pans_stands_and_tilts() -> None:
    path = along(11, x=0.3) + [(0.3, 0.0, 1.0, 0.0)] * 12
    path += [(0.3, y, 1.0, 0.0) for y in np.linspace(0, 0.3, 12)]
    (shot,) = measure_facts(filmed(path), frames_fps=FPS).shots
    pan, tilt = shot.camera
    assert (pan.kind, pan.direction, tilt.kind, tilt.direction) == ("pan", "right", "tilt", "down")
    assert (pan.start, pan.end) == pytest.approx((0.0, 1.0), abs=0.35)
    assert (tilt.start, tilt.end) == pytest.approx((2.2, 3.5), abs=0.35)


def test_a_picture_without_anything_in_it_tells_nothing_of_the_camera() -> None:
    for shape in ((36, 64), (1, 1), (200, 2), (17, 31)):
        frames = np.full((12, *shape, 3), 90, np.uint8)
        (shot,) = measure_facts(frames, frames_fps=FPS).shots
        assert shot.camera is None


def test_fades_black_freezes_and_light() -> None:
    frames = np.concatenate([filmed(along(10)), filmed(along(40, x=0.5)), filmed(along(10))])
    light = np.ones(60)
    light[:3] = 0
    light[3:10] = np.linspace(0, 1, 8)[1:]
    light[50:57] = np.linspace(1, 0, 8)[1:]
    light[57:] = 0
    frames = (frames * light[:, None, None, None]).astype(np.uint8)
    frames[20:35] = frames[20]
    facts = measure_facts(frames, frames_fps=FPS)
    assert [(fade.kind, fade.start, fade.end) for fade in facts.fades] == [
        ("from black", pytest.approx(0.2, abs=0.11), pytest.approx(0.9, abs=0.11)),
        ("to black", pytest.approx(4.9, abs=0.11), pytest.approx(5.6, abs=0.11)),
    ]
    assert facts.black[0].start == 0
    assert facts.black[-1].end == 6.0
    assert [(s.start, s.end) for s in facts.freezes] == [(2.0, 3.5)]
    assert 0.2 < facts.brightness < facts.shots[0].brightness + 0.01
    assert facts.sound is None
    words = facts_in_words(facts)
    assert words.startswith(
        "Measured in the video: it lasts 6.0 seconds. Cuts were not looked for."
    )
    assert words.endswith(
        f"Fade in from black: {facts.fades[0].start:.1f} to {facts.fades[0].end:.1f} s. "
        f"Fade out to black: {facts.fades[1].start:.1f} to {facts.fades[1].end:.1f} s. "
        f"Black picture: 0.0 to {facts.black[0].end:.1f} s and {facts.black[1].start:.1f} to "
        "6.0 s. Frozen picture: 2.0 to 3.5 s. It has no sound track."
    )


def test_a_film_of_many_shots_is_told_in_few_words() -> None:
    facts = measure_facts(filmed(along(11, x=0.3)), frames_fps=FPS)
    assert "the camera pans to the right." in facts_in_words(facts)
    shot = facts.shots[0].model_copy(update={"camera": []})
    cut = {"start": 1.0, "end": 1.0, "kind": "cut", "score": 1.0}
    cuts = [Boundary(time=float(at), **cut) for at in range(1000)]
    long = facts.model_copy(update={"cuts": cuts, "shots": [shot] * 1001, "sound": []})
    words = facts_in_words(long)
    assert "It has 1000 cuts, at 0.0 s, 1.0 s," in words
    assert "11.0 s and more." in words
    assert len(words) < 1000
    assert words.endswith("Its sound track is silent.")
    assert "1 cut, at 0.0 s." in facts_in_words(facts.model_copy(update={"cuts": cuts[:1]}))
    assert "It has no cuts." in facts_in_words(facts.model_copy(update={"cuts": []}))


def test_without_the_extra_a_video_is_one_shot_and_that_is_said() -> None:
    facts = measure_facts(filmed(along(4)), frames_fps=FPS)
    assert facts.cuts is None
    assert [(shot.start, shot.end) for shot in facts.shots] == [(0.0, 0.4)]
    assert any("not installed" in line for line in facts.warnings)


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return run


def test_the_verb_tells_it_in_lines_and_as_json(command, tmp_path: Path) -> None:
    for number, frame in enumerate(filmed(along(12, x=0.4))):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    code, out, _ = command("facts", str(tmp_path), "--frames-fps", "10")
    assert code == 0
    assert "pan right" in out
    _, out, _ = command("facts", str(tmp_path), "--frames-fps", "10", "--json")
    facts = json.loads(out)
    assert facts["shots"][0]["camera"][0]["kind"] == "pan"
    assert facts["settings"] == {"frames_fps": 10, "clip": False}
    assert command("facts", str(tmp_path), "--frames-fps", "0")[0] == 2
    asked = ("describe", str(tmp_path), "--frames-fps", "10", "--num-frames", "8", "--json")
    _, out, _ = command(*asked, "--facts", "--times")
    told = json.loads(out)["told"]
    assert "the camera pans to the right" in told["facts"]
    assert "8 frames" in told["times"]
    code, _, err = command("ask", "clip.sfmem", "Why?", "--facts")
    assert code == 2
    assert "holds no pictures to measure" in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["one.png", "empty.mp4", "text.mp4", "folder", "missing.mp4"])
def test_what_cannot_be_measured_ends_in_one_line(command, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "one.png")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "folder").mkdir()
    code, out, err = command("facts", str(tmp_path / name))
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_other_sources_that_cannot_be_measured(shared: Path) -> None:
    odd = shared / "videos" / "odd"
    for name in ("one_frame.mp4", "audio_only.mp4", "single_frame.gif", "random_bytes.mp4"):
        with pytest.raises(VideoError) as error:
            measure_facts(odd / name)
        assert "\n" not in str(error.value)


def test_sound_is_what_is_heard_of_a_track(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=FPS, options={"crf": "18"})
        pictures.width, pictures.height, pictures.pix_fmt = *SIZE, "yuv420p"
        track = file.add_stream("aac", rate=16000, layout="mono")
        for picture in filmed(along(40)):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(pictures.encode())
        loud = np.sin(np.arange(64000) / 5)[None] * (np.arange(64000) // 16000 % 3 == 0)
        sound = av.AudioFrame.from_ndarray(loud.astype(np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        file.mux(track.encode(sound))
        file.mux(track.encode())
    heard = measure_facts(path).sound
    spans = [(stretch.start, stretch.end) for stretch in heard]
    assert spans == [pytest.approx((0.0, 1.0), abs=0.2), pytest.approx((3.0, 4.0), abs=0.2)]
    with open(path, "rb") as stream:  # which can be read once
        assert measure_facts(stream).sound == heard


class Network:
    """Finds nothing."""

    device = torch.device("cpu")

    def predict_raw(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(*frames.shape[:2], 1), torch.zeros(*frames.shape[:2], 1)


def test_an_hour_needs_the_memory_of_a_minute() -> None:
    frames = filmed(along(60, x=1.5))

    def peak(times: int) -> int:
        light, camera = Light(), Camera(fps=60 * FPS)
        transitions = Transitions(Network())
        tracemalloc.start()
        for picture in (frame for _ in range(times) for frame in frames):
            for measure in (light, camera, transitions):
                measure.see(picture)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(30) < peak(3) + 500_000
