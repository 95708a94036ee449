"""One picture among many frames: where it is, what is told of it, and where more is too much."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowfast_cli.main import main
from slowfast_mllm import load
from slowfast_mllm.evaluate.needle import find_needles, haystack, needle

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints


def test_one_frame_shows_the_needle_and_the_others_drift_by() -> None:
    picture = needle("red", "star")
    frames = haystack(np.random.default_rng(1), 9, 4, picture)
    same = [bool((frame == picture).all()) for frame in frames]
    assert same == [i == 4 for i in range(9)]
    assert all((a != b).any() for a, b in pairwise(frames))
    shapes = [needle("red", shape) for shape in ("circle", "square", "star", "triangle")]
    assert len({shape.tobytes() for shape in shapes}) == 4


def test_each_model_is_shown_the_same_until_it_can_take_no_more(tmp_path: Path) -> None:
    tiny = load(tiny_checkpoints.write("qwen2_vl", tmp_path / "tiny"))
    trials = list(find_needles(tiny, (600, 4), (0.0, 1.0)))
    assert [(t.num_frames, t.depth) for t in trials] == [(4, 0.0), (4, 1.0), (600, 0.0)]
    assert [t.found for t in trials] == [None] * 3
    assert trials[0].answer is not None
    assert "reads less than" in str(trials[2].error)
    captioner = load(tiny_checkpoints.write("captioner", tmp_path / "captioner"))
    with pytest.raises(ValueError, match="reads no questions"):
        next(find_needles(captioner, (4,)))
    with pytest.raises(ValueError, match="two frames"):
        next(find_needles(tiny, (1,)))


def test_the_verb_tells_and_draws(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    picture = tmp_path / "needle.png"
    few = ("--frames", "8", "--frames", "4", "--depths", "2")

    def run(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", "bench", "needle", *few, *more])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().out

    code, out = run("--plot", str(picture))  # the packaged model, which tells what it read
    lines = out.splitlines()[2:]
    assert (code, [line.split()[0] for line in lines]) == (0, ["4", "4", "8", "8"])
    assert all(line.split()[5] in ("yes", "no") for line in lines)
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height
    tiny = tiny_checkpoints.write("qwen2_vl", tmp_path / "tiny")
    code, out = run("--model", str(tiny), "--json")
    trials = json.loads(out)["trials"]
    assert (code, [trial["depth"] for trial in trials]) == (0, [0.0, 1.0, 0.0, 1.0])
    assert all(trial["found"] is None and trial["seconds"] > 0 for trial in trials)
    assert run("--depths", "0")[0] == 2
