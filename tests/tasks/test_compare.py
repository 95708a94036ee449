"""Two videos side by side: what is measured is told of both, and words are the model's own."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_cli.main import main
from slowfast_mini import world
from slowfast_mllm import SlowFast, load
from slowfast_mllm.tasks import compare_videos
from slowfast_mllm.video import VideoError

sys.path.append(str(Path(__file__).parents[1] / "engine"))
import tiny_checkpoints

FEW = {"num_frames": 4, "max_new_tokens": 4}
RATE = 8


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A drawn clip of 2 s, and one of 3 s that is brighter and stands still."""
    place = tmp_path_factory.mktemp("clips")
    scene = world.render(world.sample_script(3), np.arange(3 * RATE) / RATE, 96) // 2
    still = np.repeat(scene[:1] + 100, len(scene), axis=0)
    return write(place / "one.mp4", scene[: 2 * RATE]), write(place / "other.mp4", still)


def write(path: Path, frames: np.ndarray) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def test_what_is_measured_differs_where_it_does(packaged: SlowFast, clips) -> None:
    found = compare_videos(packaged, *clips, **FEW)
    told = {aspect.name: aspect for aspect in found.aspects}
    for name in ("length", "brightness", "frozen"):
        assert told[name].differs, told[name]
    assert (told["length"].first, told["length"].second) == ("2.00 s", "3.00 s")
    assert (told["frozen"].first, told["frozen"].second) == ("none", "0.00 to 3.00 s")
    for name in ("picture", "sound", "black"):
        assert told[name].differs is False, told[name]
    assert [found.video.path, found.other.path] == list(clips)
    assert found.facts[1].brightness > found.facts[0].brightness + 0.1
    assert (found.by, found.answer) == ("each by itself", None)
    alone = [packaged.describe(clip, **FEW).text for clip in clips]
    assert found.said == alone


def test_a_video_does_not_differ_from_itself(packaged: SlowFast, clips) -> None:
    found = compare_videos(packaged, clips[0], clips[0], "How does the camera move?", **FEW)
    assert not any(aspect.differs for aspect in found.aspects)
    assert found.said[0] == found.said[1] == " ".join(found.said_of_both)
    assert found.question == "How does the camera move?"


def test_a_model_that_takes_several_videos_is_asked_about_both(clips, tmp_path: Path) -> None:
    other = load(tiny_checkpoints.write("qwen2_vl", tmp_path / "other"))
    found = compare_videos(other, *clips, words_only=True, **FEW)
    assert (found.by, found.said, found.facts) == ("both in one prompt", None, None)
    assert found.question == "What is different between the two videos?"
    together = other.encode_together(clips, num_frames=4)
    assert found.answer == other.ask(together, found.question, max_new_tokens=4).text
    assert [aspect.name for aspect in found.aspects] == ["length", "picture"]


def test_what_cannot_be_measured_says_why(packaged: SlowFast, clips, tmp_path: Path) -> None:
    memory = tmp_path / "one.sfmem"
    packaged.index(clips[0], memory, num_frames=4)
    found = compare_videos(packaged, memory, clips[1], max_new_tokens=4)
    assert found.facts is None
    assert "one.sfmem is a memory" in found.warnings[-1]
    part = compare_videos(packaged, *clips, start=1.0, **FEW)
    assert part.facts is None
    assert "a part was asked for" in part.warnings[-1]
    picture = compare_videos(packaged, np.zeros((1, 64, 64, 3), np.uint8), clips[1], **FEW)
    assert "a single picture" in picture.warnings[-1]
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        compare_videos(packaged, clips[0], "gone.mp4")


def test_the_verb_puts_both_side_by_side(clips, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", "compare", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    code, out, _ = run(*clips, "--num-frames", "4")
    lines = out.splitlines()
    assert (code, lines[:3]) == (
        0,
        [f"A: {clips[0]}", f"B: {clips[1]}", "!= length: 2.00 s | 3.00 s"],
    )
    told = json.loads(run(*clips, "Any cuts?", "--words-only", "--num-frames", "4", "--json")[1])
    assert (told["question"], len(told["said"])) == ("Any cuts?", 2)
    code, out, err = run(clips[0], "gone.mp4", "--model", "no/such/model")
    assert (code, out) == (1, "")
    assert "gone.mp4: no such file" in err
    assert run(*clips, " ")[0] == 2
