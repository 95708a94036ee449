"""A second look goes where something comes and goes between the frames of the first one."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from slowfast_mllm import SlowFast, VideoError, load
from slowfast_mllm.engine import Answer, Sampling
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks import look_twice
from slowfast_mllm.tasks.gaps import middles, unexplained
from slowfast_mllm.tasks.look_twice import ask_twice
from slowfast_mllm.video import read_video
from slowfast_mllm.video.motion import SMALL

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTION = "Which letter or digit is shown?"
SEEN = [0, 10, 20, 30, 39]


def small(kind: str) -> np.ndarray:
    """40 pictures that change in one way or another, in noise."""
    rng = np.random.default_rng(0)
    pictures = np.full((40, 32, 32, 3), 100.0)
    time = np.arange(40)[:, None, None, None]
    if kind == "fade":
        pictures += 3 * time
    elif kind == "moves":
        across = np.arange(32)[None, None, :, None]
        pictures = pictures + 100 * ((across > time * 0.6) & (across < time * 0.6 + 8))
    elif kind == "flickers":
        pictures = pictures + rng.uniform(-3, 3, (40, 1, 1, 1))
    pictures += rng.normal(0, 2, pictures.shape)
    return pictures.astype(np.float32)


@pytest.mark.parametrize("kind", ["still", "fade", "flickers"])
def test_what_changes_by_and_by_is_no_surprise(kind: str) -> None:
    assert unexplained(small(kind), SEEN, 8) == []


@pytest.mark.parametrize("kind", ["still", "fade", "flickers", "moves"])
@pytest.mark.parametrize(("flash", "level"), [(14, 60), (34, -60)])
def test_a_flash_between_two_frames_comes_first(kind: str, flash: int, level: int) -> None:
    pictures = small(kind)
    pictures[flash : flash + 2, 3:10, 22:29] += level * 2  # a patch of a twentieth of the picture
    found = unexplained(pictures, SEEN, 8)
    assert found[0] in (flash, flash + 1)
    assert not {*found} & {*SEEN}


def test_several_flashes_in_one_gap_are_found_and_no_more_than_asked_for() -> None:
    pictures = small("still")
    for row, flash in enumerate((12, 15, 18, 33)):
        pictures[flash, 8 * row : 8 * row + 8] += 80
    assert {*unexplained(pictures, SEEN, 8)} == {12, 15, 18, 33}
    assert len(unexplained(pictures, SEEN, 2)) == 2


def test_middles_are_beside_what_they_are_asked_for() -> None:
    assert middles(SEEN, [20], 2) == [15, 25]
    assert middles(SEEN, [39], 3) == [34, 36, 32]
    assert middles([0, 1, 2], [1], 5) == []


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


def test_a_second_look_takes_in_what_the_first_missed(packaged: SlowFast) -> None:
    """The letter of the example is shown from frame 163 to 169: of 10 frames none shows it."""
    answer = ask_twice(packaged, CLIP, QUESTION, num_frames=10)
    first, second = answer.looks
    assert len(first.frame_indices) == 10
    assert not {*first.frame_indices} & {*range(160, 172)}
    added = [frame.index for frame in second.added]
    assert {*added} & {*range(163, 170)}
    assert second.frame_indices == sorted({*first.frame_indices, *added}) == answer.frame_indices
    assert len(added) <= 5
    assert second.text == answer.text
    assert {frame.why for frame in second.added} <= {"change", "evidence"}
    assert answer.evidence is None
    assert answer.timing["scan"] > 0
    told = answer.to_dict()["looks"]
    assert [look["answer"] for look in told] == [first.text, second.text]
    assert {*told[1]["added"][0]} == {"index", "timestamp", "why"}
    alone = packaged.ask(CLIP, QUESTION, at=answer.timestamps)
    assert alone.text == answer.text


def test_bounds_evidence_and_words_as_they_come(packaged: SlowFast) -> None:
    pieces: list[str] = []
    how = {"num_frames": 6, "start": 3.0, "end": 6.2, "evidence": True}
    answer = ask_twice(packaged, CLIP, QUESTION, pieces.append, **how)
    assert "".join(pieces).strip() == answer.text
    assert 3.0 <= answer.timestamps[0] <= answer.timestamps[-1] < 6.2
    assert len(answer.evidence.weights) == len(answer.timestamps) > 6


@pytest.mark.parametrize("count", [1, 40])
def test_one_look_is_enough_where_nothing_happens(packaged: SlowFast, count: int) -> None:
    grey = np.full((count, 64, 64, 3), 90, np.uint8)
    pieces: list[str] = []
    answer = ask_twice(packaged, grey, QUESTION, pieces.append, frames_fps=10.0, num_frames=8)
    assert "".join(pieces) == answer.text
    if not packaged.ask(
        grey, QUESTION, frames_fps=10.0, num_frames=8, evidence=True
    ).evidence.spans:
        assert len(answer.looks) == 1
    assert answer.evidence is None


class Watcher:
    """Tells which frames it is shown; of evidence it knows nothing."""

    capabilities = SimpleNamespace(evidence=False)
    reader = Reader()

    def ask(self, video, question, on_text=None, **options) -> Answer:
        seen = read_video(video, **Sampling(**options).wanted(8), transform=SMALL)
        indices, times = seen.frame_indices.tolist(), seen.timestamps.tolist()
        return Answer(str(indices), "watcher", seen.info, indices, times, {"tokens": 1})


@pytest.mark.parametrize(("flash", "found"), [(3000, True), (3005, False)])
def test_of_a_long_video_some_frames_are_compared(monkeypatch, flash: int, found: bool) -> None:
    """Of 5,001 frames every tenth, as there are 501 of them: more takes more than it tells."""
    monkeypatch.setattr(look_twice, "_MOST", 501)
    frames = np.full((5001, 8, 8, 3), 90, np.uint8)
    frames[flash] = 255
    answer = ask_twice(Watcher(), frames, "What flashes?", frames_fps=10.0)
    assert len(answer.looks) == 1 + found
    if found:
        assert flash in [frame.index for frame in answer.looks[1].added]
        assert len(answer.frame_indices) <= 8 + 4
        assert answer.looks[1].text == str(answer.frame_indices) == answer.text


def test_a_stream_is_looked_at_twice_and_a_memory_is_not(packaged: SlowFast, tmp_path) -> None:
    answer = ask_twice(packaged, io.BytesIO(CLIP.read_bytes()), QUESTION, num_frames=10)
    assert len(answer.looks) == 2
    memory = packaged.encode(CLIP, num_frames=8)
    for video in (memory, tmp_path / "clip.sfmem"):
        with pytest.raises(VideoError, match="no frames to look at a second time"):
            ask_twice(packaged, video, QUESTION)
