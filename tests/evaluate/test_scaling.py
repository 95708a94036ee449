"""How cost grows: exponents of known growth, and what a run measures, tells and draws."""

import json
import sys
from pathlib import Path

import pytest

from slowfast_cli.main import main
from slowfast_mllm.evaluate import scaling
from slowfast_mllm.evaluate.scaling import draw_clip, fitted_exponent
from slowfast_mllm.video import probe_video


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0, 2.0])
def test_a_power_is_told_by_its_exponent(exponent: float) -> None:
    sizes = [8, 16, 32, 64]
    seconds = [0.3 * size**exponent for size in sizes]
    assert fitted_exponent(sizes, seconds) == pytest.approx(exponent)


def test_drawn_clips_are_as_long_as_they_say(tmp_path: Path) -> None:
    info = probe_video(draw_clip(tmp_path / "clip.mp4", 5))
    assert info.duration == pytest.approx(5, abs=0.2)


def run(monkeypatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slowfast", "bench", "scale", *options])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_a_small_run_is_told_and_drawn(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(scaling, "_FEWEST", 2)
    plot = tmp_path / "scale.png"
    options = ("--steps", "2", "--runs", "1", "--json", "--plot", str(plot), "--device", "cpu")
    assert run(monkeypatch, *options) == 0
    found = json.loads(capsys.readouterr().out)["growth"]
    whats = ["frames", "clip length", "clips", "questions", "batch"]
    assert [growth["what"] for growth in found] == whats
    assert [p["size"] for p in found[0]["points"]] == [2, 4]
    assert all(len(p["runs"]) == 1 and p["seconds"] > 0 for g in found for p in g["points"])
    assert plot.stat().st_size > 1000


def test_one_size_tells_no_growth(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--steps", "1") == 2
    assert "two steps" in capsys.readouterr().err
