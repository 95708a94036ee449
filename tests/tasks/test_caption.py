"""Captions of many videos: whatever ends the program, each video is told once and none is lost."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast_mllm import SlowFast, VideoError, load
from slowfast_mllm.tasks import Caption, Captioning, caption_into, caption_video, caption_videos
from slowfast_mllm.tasks.cut_text import at_most, sentences, without_loops
from slowfast_mllm.tasks.export import check_export, export
from slowfast_mllm.tasks.records import Record, read_records, shard_of

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUICK = Captioning(max_new_tokens=4, sampling={"num_frames": 2})


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    return load(device="cpu")


def clips(count: int) -> list[Record]:
    return [Record(f"clip {i}", str(CLIP)) for i in range(count)]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_killed_and_begun_again_nothing_is_lost_and_nothing_is_there_twice(
    assistant: SlowFast, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    program = f"""if True:
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_caption import QUICK, Path, caption_into, clips, load
        def show(progress):
            if progress.done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        caption_into(Path({str(output)!r}), load(device="cpu"), clips(12), QUICK, show)
    """
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=200)
    assert killed.returncode == -9, killed.stderr
    before = output.read_bytes()
    assert before.count(b"\n") == 5
    output.write_bytes(before + before.splitlines()[0][:40])  # torn in the middle of a line
    progress = caption_into(output, assistant, clips(12), QUICK)
    assert (progress.done, progress.total) == (7, 7)
    assert output.read_bytes().startswith(before)
    assert sorted(line["id"] for line in lines(output)) == sorted(r.id for r in clips(12))
    assert {line["caption"] for line in lines(output)} == {lines(output)[0]["caption"]}
    assert caption_into(output, assistant, clips(12), QUICK).total == 0


def test_a_broken_clip_among_good_ones_is_told_and_tried_again(
    assistant: SlowFast, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(CLIP.read_bytes()[:3000])
    records = [
        Record("row 1", "", problem="table.csv:1: no name of a file."),
        *clips(1),
        Record("broken", str(broken)),
        Record("gone", str(tmp_path / "gone.mp4")),
        Record("after its end", str(CLIP), start=50.0),
        Record("last", str(CLIP)),
    ]
    progress = caption_into(output, assistant, records, QUICK)
    assert (progress.done, progress.failed, progress.seconds_left) == (2, 4, 0)
    assert [line["id"] for line in lines(output)] == ["clip 0", "last"]
    told = {line["id"]: line["error"] for line in lines(tmp_path / "out.errors.jsonl")}
    assert list(told) == ["row 1", "broken", "gone", "after its end"]
    assert "no name of a file" in told["row 1"]
    assert "not a readable video" in told["broken"]
    shutil.copy(CLIP, broken)
    progress = caption_into(output, assistant, records, QUICK)
    assert (progress.done, progress.failed) == (1, 3)


def test_what_is_in_the_output_is_never_mixed_with_something_else(
    assistant: SlowFast, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    caption_into(output, assistant, clips(1), QUICK)
    kept = output.read_bytes()
    other = Captioning(prompt="What moves?", sampling=QUICK.sampling)
    with pytest.raises(ValueError, match="made before with other settings"):
        caption_into(output, assistant, clips(2), other)
    assert output.read_bytes() == kept
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"mine": 1}\n{"mine":')
    with pytest.raises(ValueError, match="line 1 is none of this job's results"):
        caption_into(notes, assistant, clips(1), QUICK)
    assert notes.read_text() == '{"mine": 1}\n{"mine":'


def test_a_disk_that_is_full_ends_in_one_line_and_whole_results(
    assistant: SlowFast, tmp_path: Path, monkeypatch
) -> None:
    output = tmp_path / "out.jsonl"
    caption_into(output, assistant, clips(1), QUICK)
    kept = output.read_bytes()
    import os

    write = os.write

    def full(file: int, data: memoryview) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as broken:
        broken.setattr("os.write", full)
        with pytest.raises(OSError, match=r"No space left on device.*make room"):
            caption_into(output, assistant, clips(2), QUICK)
    assert output.read_bytes() == kept
    caption_into(output, assistant, clips(2), QUICK)
    assert len(lines(output)) == 2


def test_two_programs_do_not_write_one_output(assistant: SlowFast, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    asked: list[str] = []

    def again(progress: object) -> None:
        if not asked:
            with pytest.raises(ValueError, match="another program is writing it"):
                caption_into(output, assistant, clips(1), QUICK)
            asked.append("once")

    caption_into(output, assistant, clips(1), QUICK, again)
    assert asked


def test_a_dense_caption_tells_the_whole_length(assistant: SlowFast) -> None:
    how = Captioning(dense=True, window=2.0, max_new_tokens=12, sampling={"num_frames": 4})
    found = caption_video(assistant, str(CLIP), how)
    assert found.segments[0].start == 0
    assert found.segments[-1].end == pytest.approx(6.6)
    for one, following in zip(found.segments, found.segments[1:], strict=False):
        assert one.end == following.start
        assert one.text != following.text  # neighbours that say the same are one
    assert found.caption == " ".join(s.text for s in found.segments)
    assert max(found.frames.timestamps) > 6
    assert Caption.model_validate_json(found.model_dump_json()) == found
    bounded = [Record("a", str(CLIP), 1.0, 2.5), Record("b", str(CLIP), 50.0)]
    (_, first), (_, second) = caption_videos(assistant, bounded, how)
    assert [(s.start, s.end) for s in first.segments] == [(1.0, 2.5)]
    assert isinstance(second, VideoError)


def test_a_video_is_captioned_as_it_is_asked(assistant: SlowFast) -> None:
    found = caption_video(assistant, str(CLIP), Captioning(sampling={"num_frames": 8}))
    assert found.caption == assistant.describe(CLIP, num_frames=8).text
    assert found.segments == []
    short = caption_video(assistant, str(CLIP), Captioning(max_words=3))
    assert len(short.caption.split()) <= 3


@pytest.mark.parametrize(
    ("text", "words", "cut"),
    [
        ("A star moves. It stops. Then it turns", 6, "A star moves. It stops."),
        ("A star moves to the left", 3, "A star moves…"),
        ("A star moves.", 3, "A star moves."),
        ("一顆星往左移動。然後停下來。", 9, "一顆星往左移動。"),
        ("It is 3.5 m wide. So", 5, "It is 3.5 m wide."),
    ],
)
def test_no_caption_is_longer_than_it_may_be(text: str, words: int, cut: str) -> None:
    assert at_most(text, words) == cut


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("A man walks. He stops, he stops, he stops, he st", "A man walks. He stops"),
        ("A dog runs to the tree. A dog runs to the tree. A dog runs", "A dog runs to the tree."),
        ("A red star, a red ring and a red square.", "A red star, a red ring and a red square."),
        ("He knocks twice, knock knock, and leaves.", "He knocks twice, knock knock, and leaves."),
        ("一隻狗跑過草地一隻狗跑過草地一隻狗跑過草地一隻狗", "一隻狗跑過草地"),
    ],
)
def test_what_is_said_again_and_again_stands_once(text: str, cut: str) -> None:
    assert without_loops(text) == cut


def test_sentences_end_in_any_script_and_not_within_numbers() -> None:
    text = "It leaves at 5.5 s. 有一隻貓。牠走了！ And then"
    assert sentences(text) == ["It leaves at 5.5 s.", "有一隻貓。", "牠走了！", "And then"]
    assert sentences(" ") == []


def test_videos_are_found_in_folders_and_tables(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.webm", "sub/c.mkv", ".hidden.mp4", "notes.txt", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read_records([tmp_path])
    assert [Path(r.video).name for r in found] == ["a.webm", "b.MP4", "c.mkv"]
    table = tmp_path / "table.jsonl"
    rows = [
        '{"video": "b.MP4", "start": 1, "end": 2.5, "label": "x"}',
        "{broken",
        '{"id": 7, "path": "/far/away.mp4"}',
        '{"id": "no name"}',
        '{"id": "no number", "video": "a.webm", "start": "soon"}',
        '["a"]',
    ]
    table.write_text("\n".join(rows), encoding="utf-8")
    first, broken, seven, *wrong = read_records([table])
    assert first == Record("b.MP4#t=1,2.5", str(tmp_path / "b.MP4"), 1.0, 2.5)
    assert "table.jsonl:2: not valid JSON" in broken.problem
    assert seven == Record("7", "/far/away.mp4")
    assert [r.id for r in wrong[:2]] == ["no name", "no number"]
    assert all(r.problem for r in wrong)
    (tmp_path / "table.csv").write_text("id,video,start\nx,b.MP4,\ny,a.webm,3\n")
    assert read_records([tmp_path / "table.csv"]) == [
        Record("x", str(tmp_path / "b.MP4")),
        Record("y", str(tmp_path / "a.webm"), 3.0),
    ]
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    columns = {"video": ["b.MP4", "a.webm"], "start": [None, 1.0], "more": [b"", b"1"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    assert [(r.id, r.start) for r in read_records([tmp_path / "table.parquet"])] == [
        ("b.MP4", None),
        ("a.webm#t=1,", 1.0),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", None, "a folder without videos"),
        ("empty.csv", b"", "a table without rows"),
        ("latin.jsonl", b"\xff\xfe\x00", "cannot be read as UTF-8"),
        ("gone.csv", ..., "cannot be read"),
        ("no.parquet", b"PAR1", "not a Parquet file"),
        ("twice.jsonl", b'{"id": 1, "video": "a"}\n{"id": 1, "video": "b"}', "to two records"),
    ],
)
def test_sources_without_videos_are_told(tmp_path: Path, name: str, content, said: str) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif content is not ...:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_records([path])


def test_shards_share_all_and_stay_when_others_come() -> None:
    few, many = clips(50), clips(80)
    shares = [shard_of(few, number, 4) for number in range(1, 5)]
    assert sorted(r.id for share in shares for r in share) == sorted(r.id for r in few)
    assert all(shares)
    assert set(shares[2]) <= set(shard_of(many, 3, 4))


def test_captions_become_subtitles_and_tables(assistant: SlowFast, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    dense = Captioning(dense=True, window=4.0, max_new_tokens=6, sampling={"num_frames": 2})
    caption_into(journal, assistant, clips(1), dense)
    rows = lines(journal)
    rows[0]["segments"] = [
        {"start": 0.0, "end": 3.3, "text": "A <b> --> c & d"},
        {"start": 3.3, "end": 3725.9999, "text": "右\n左"},
    ]
    journal.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    export(journal, tmp_path / "out.vtt")
    assert (tmp_path / "out.vtt").read_text(encoding="utf-8") == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:03.300\nA &lt;b&gt; --&gt; c &amp; d\n\n"
        "2\n00:00:03.300 --> 01:02:06.000\n右 左\n"
    )
    journal.write_text(
        "".join(json.dumps(r | {"id": i}) + "\n" for i in ("a/b", "a_b") for r in rows)
    )
    export(journal, tmp_path / "out.srt")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_b.2.srt", "a_b.srt"]
    assert "00:00:03,300 --> 01:02:06,000" in (tmp_path / "out" / "a_b.srt").read_text()
    parquet = pytest.importorskip("pyarrow.parquet")
    export(journal, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in table] == ["a/b", "a_b"]
    assert table[0]["segments"] == rows[0]["segments"]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ["", ".jsonl", ".parquet", ".vtt"]
    with pytest.raises(ValueError, match="give --dense too"):
        check_export(tmp_path / "out.srt", dense=False)
