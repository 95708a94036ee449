"""A folder of videos is searched: what is new is watched, what is not is only asked."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from slowfast_cli.main import main
from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.tasks import search_folder
from slowfast_mllm.tasks.windows import equal_parts

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUICK = {"num_frames": 8}


class Counting(SlowFast):
    """The packaged model, with the names of the videos that it watched."""

    watched: list[str]

    def encode(self, video, **sampling):
        if str(video).endswith(".mp4"):
            self.watched.append(Path(video).name)
        return super().encode(video, **sampling)


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture
def counting(packaged: SlowFast) -> Counting:
    one = Counting(packaged.model, packaged.processor, packaged.name)
    one.watched = []
    return one


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn clips: a black triangle from 1.03 s on and an orange ring from 3.82 s on; another."""
    folder = tmp_path_factory.mktemp("clips")
    world.write_video(world.sample_script(3), folder / "ring.mp4", fps=8, size=96)
    (folder / "deep").mkdir()
    shutil.copy(CLIP, folder / "deep" / "moon.mp4")
    return folder


@pytest.fixture
def folder(clips: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clips, tmp_path / "footage"))


def test_videos_are_found_with_the_times_at_which_they_show_it(counting, folder: Path) -> None:
    found = search_folder(counting, folder, "an orange ring", window=2.0, **QUICK)
    (hit,) = found.hits
    assert hit.path == "ring.mp4"
    (moment,) = hit.moments
    assert 1.5 < moment.start <= 3.95  # a frame after it appears
    assert moment.end == pytest.approx(5.875, abs=0.05)
    assert found.searched == 2
    assert sorted(found.added) == ["deep/moon.mp4", "ring.mp4"]
    moon = search_folder(counting, folder, "an orange moon", window=2.0, **QUICK)
    assert [hit.path for hit in moon.hits] == ["deep/moon.mp4"]
    nothing = search_folder(counting, folder, "a purple heart", window=2.0, **QUICK)
    assert (nothing.hits, nothing.best < 0.5) == ([], True)


def test_only_what_is_new_or_changed_is_watched(counting: Counting, folder: Path) -> None:
    def search() -> tuple[list[str], ...]:
        counting.watched = []
        found = search_folder(counting, folder, "an orange ring", **QUICK)
        assert {hit.path for hit in found.hits} <= {path.name for path in folder.iterdir()}
        return counting.watched, found.added, found.changed, found.removed

    assert search()[0] == ["ring.mp4", "moon.mp4"]
    assert search() == ([], [], [], [])
    os.utime(folder / "ring.mp4", (1, 1))  # another time, the same content
    assert search() == ([], [], [], [])
    shutil.copy(folder / "deep" / "moon.mp4", folder / "ring.mp4")
    assert search() == ([], [], ["ring.mp4"], [])  # what it holds now was watched elsewhere
    (folder / "ring.mp4").unlink()
    world.write_video(world.sample_script(5), folder / "new.mp4", fps=4, size=96)
    assert search() == (["new.mp4"], ["new.mp4"], [], ["ring.mp4"])
    memories = list((folder / ".slowfast").rglob("*.sfmem"))
    assert len(memories) == 2
    memories[0].write_bytes(b"damaged")
    memories[1].unlink()
    assert sorted(search()[0]) == ["moon.mp4", "new.mp4"]
    assert search()[0] == []


def test_a_search_that_was_stopped_goes_on_where_it_was(counting: Counting, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_folder(counting, folder, "an orange ring", on_progress=stop, **QUICK)
    assert counting.watched == ["ring.mp4"]
    search_folder(counting, folder, "an orange ring", **QUICK)
    assert counting.watched == ["ring.mp4", "moon.mp4"]
    (listed,) = folder.rglob("index.json")
    listed.unlink()  # as after a kill, which leaves no time to write it
    search_folder(counting, folder, "an orange ring", **QUICK)
    assert counting.watched == ["ring.mp4", "moon.mp4"]


def test_memories_that_cannot_be_written_end_in_one_line(packaged, folder: Path) -> None:
    with pytest.raises(OSError, match=r"memories cannot be written.*--index"):
        search_folder(packaged, folder, "a red star", place=folder / "ring.mp4", **QUICK)


def test_files_that_cannot_be_read_are_told_and_the_others_searched(packaged, folder) -> None:
    (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:3000])
    (folder / "empty.mp4").touch()
    found = search_folder(packaged, folder, "an orange ring", **QUICK)
    assert [hit.path for hit in found.hits] == ["ring.mp4"]
    assert sorted(one.path for one in found.unread) == ["broken.mp4", "empty.mp4"]
    assert "cannot be read" in found.warnings[0]
    assert found.searched == 2
    for name in ("ring.mp4", "deep/moon.mp4"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match="no video can be read"):
        search_folder(packaged, folder, "an orange ring", **QUICK)


def test_a_model_without_memories_searches_too(tmp_path: Path, folder: Path) -> None:
    other = load(tiny_checkpoints.write("llava_onevision", tmp_path / "other"))
    found = search_folder(other, folder, "a red star", threshold=0.01, num_frames=2)
    assert found.searched == 2
    assert [hit.score for hit in found.hits] == sorted((h.score for h in found.hits), reverse=True)
    assert "keeps no memories" in found.warnings[0]
    assert not list(folder.rglob("*.sfmem"))


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slowfast", "search", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_page_shows_pictures_of_moments(monkeypatch, capsys, folder: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    place = folder.parent / "elsewhere"
    options = ("--num-frames", "8", "--index", str(place), "--json", "--open")
    assert run(monkeypatch, str(folder), "an orange ring", *options) == 0
    told = json.loads(capsys.readouterr().out)
    assert [hit["path"] for hit in told["hits"]] == ["ring.mp4"]
    page = place / "search.html"
    assert opened == [page.as_uri()]
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 4
    assert "ring.mp4" in text
    assert "http" not in text
    assert not (folder / ".slowfast").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["empty", "a star"], 1, "a folder without videos"),
        (["gone", "a star"], 1, "gone"),
        (["file.mp4", "a star"], 1, "not a folder"),
        (["empty", ""], 2, "what to look for"),
        (["empty", "a star", "--start", "1"], 2, "is searched"),
        (["empty", "a star", "--window", "0"], 1, "at least 0.1"),
        (["empty", "a star", "--top", "0"], 1, "from 1"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    monkeypatch, capsys, tmp_path, arguments, code, said
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.mp4").touch()
    assert run(monkeypatch, *arguments) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert list((tmp_path / "empty").iterdir()) == []


def test_parts_are_equal_and_cover_the_length() -> None:
    assert equal_parts(0.0, 25.0, 10.0) == [(0, 8.3333), (8.3333, 16.6667), (16.6667, 25)]
    assert equal_parts(0.0, 0.0, 10.0) == [(0, 0)]
