"""When a video shows something: on drawn clips whose scripts are known, and by any model."""

import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast_cli.main import main
from slowfast_mini import world
from slowfast_mllm import SlowFast, VideoError, load
from slowfast_mllm.tasks import ground_video

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
RATE = 8


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A black triangle comes at 1.03 s and an orange ring at 3.82 s; both stay to the end."""
    script = world.sample_script(3)
    return world.render(script, np.arange(int(script.duration * RATE)) / RATE, 128)


def test_a_thing_is_found_from_when_it_comes_to_when_it_goes(packaged, drawn) -> None:
    there_and_gone = np.concatenate([drawn, drawn[:16]])  # from 5.875 s on as in the beginning
    (span,) = ground_video(packaged, there_and_gone, "an orange ring", frames_fps=RATE).spans
    assert span.start == pytest.approx(3.82, abs=0.5)
    assert span.end == pytest.approx(5.875, abs=0.5)
    assert span.score > 0.9


def test_what_comes_twice_has_two_spans(packaged, drawn) -> None:
    twice = np.concatenate([drawn, drawn[:24], drawn[32:]])
    found = ground_video(packaged, twice, "an orange ring", frames_fps=RATE)
    starts = [span.start for span in found.spans]
    assert starts == pytest.approx([3.82, 5.875 + 3], abs=0.5)
    assert found.spans[0].end <= found.spans[1].start


def test_what_is_not_there_is_not_found_and_the_curve_says_how_sure(packaged, drawn) -> None:
    found = ground_video(packaged, drawn, "a purple heart", frames_fps=RATE)
    assert not found.found
    assert found.spans == []
    assert max(window.score for window in found.curve) < 0.5
    assert [w.start for w in found.curve] == sorted(w.start for w in found.curve)
    assert found.curve[0].start == 0
    assert found.curve[-1].end == pytest.approx(len(drawn) / RATE)
    assert found.frames.timestamps == pytest.approx(np.arange(len(drawn)) / RATE)


def test_times_are_those_of_the_clip_within_bounds(packaged) -> None:
    found = ground_video(packaged, CLIP, "a red triangle", start=1.0, end=3.0)
    assert all(1 <= w.start < w.end <= 3 for w in [*found.curve, *found.spans])
    with pytest.raises(VideoError, match=r"shapes\.mp4"):
        ground_video(packaged, CLIP, "a red triangle", start=500.0)


def test_any_model_that_is_asked_can_do_it(tmp_path: Path) -> None:
    other = load(tiny_checkpoints.write("llava_onevision", tmp_path / "other"))
    found = ground_video(other, CLIP, "a red triangle", num_frames=8)
    assert found.found == bool(found.spans)
    assert found.curve[0].start == found.frames.timestamps[0]
    assert max(w.end for w in found.curve) == pytest.approx(found.video.duration, abs=0.01)
    captioner = load(tiny_checkpoints.write("captioner", tmp_path / "captioner"))
    with pytest.raises(ValueError, match="reads no questions"):
        ground_video(captioner, CLIP, "a red triangle")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([str(CLIP), " "], 2, "what to look for"),
        ([str(CLIP), "a star", "--threshold", "1.5"], 2, "between 0 and 1"),
        ([str(CLIP), "a star", "--plot", "nowhere/at/all.png"], 2, "no such folder"),
        ([str(CLIP), "a star", "--start", "500"], 1, "shapes.mp4"),
        (["gone.mp4", "a star"], 1, "gone.mp4"),
        (["clip.sfmem", "a star"], 1, "a memory holds no frames"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    monkeypatch, capsys, tmp_path, arguments, code, said
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.sfmem").touch()
    monkeypatch.setattr(sys, "argv", ["slowfast", "ground", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_curve_is_drawn(monkeypatch, capsys, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curve.png"
    command = ["slowfast", "ground", str(CLIP), "a red triangle", "--num-frames", "8"]
    monkeypatch.setattr(sys, "argv", [*command, "--plot", str(plot)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert " s  " in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
