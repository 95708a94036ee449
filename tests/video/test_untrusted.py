"""Input from strangers: nothing is fetched or followed, nothing blocks, nothing crashes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast_mllm.video import VideoError, probe_video, read_video

FUZZ = Path(__file__).with_name("fuzz_child.py")


def message_of(source: object) -> str:
    """The one line with which both readers refuse `source`."""
    messages = set()
    for reader in (read_video, probe_video):
        with pytest.raises(VideoError) as caught:
            reader(source)
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    return message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "gone.mp4: no such file" in message_of(tmp_path / "gone.mp4")


def test_a_symlink_loop_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert f"{tmp_path / 'a'}: cannot be opened" in message_of(tmp_path / "a")


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    assert "clip.mp4: a folder without pictures" in message_of(tmp_path / "clip.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(clip_path: Path) -> None:
    clip_path.chmod(0)
    assert "clip.mp4: cannot be opened (Permission denied)" in message_of(clip_path)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    assert "clip.mp4: a pipe, socket or device" in message_of(tmp_path / "clip.mp4")


def test_a_device_is_refused() -> None:
    assert "/dev/zero: a pipe, socket or device" in message_of("/dev/zero")


@pytest.mark.parametrize("protocol", ["http://127.0.0.1:9/", "concat:", "subfile:,,:", "data:"])
def test_protocols_are_local_names(protocol: str, clip_path: Path) -> None:
    assert "no such file; only local files are read" in message_of(f"{protocol}{clip_path}")


def test_a_file_named_like_a_protocol_is_read(clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "concat:clip.mp4").write_bytes(clip)
    assert probe_video(tmp_path / "concat:clip.mp4").num_frames == 24


@pytest.mark.parametrize(
    "name", ["-i.mp4", "100%d.mp4", "a b\n.mp4", "видео 視頻 é.mp4", "x?y#z.mp4"]
)
def test_strange_names_are_only_names(
    name: str, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip)
    info = probe_video(name)
    assert info.num_frames == 24
    assert "\n" not in info.path


def test_names_that_are_no_unicode_are_read(clip: bytes, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    Path(path).write_bytes(clip)
    assert probe_video(path).num_frames == 24


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period>'
        "</MPD>",
    ],
    ids=["hls", "concat", "dash"],
)
def test_scripts_that_name_other_files_are_refused(
    script: str, clip_path: Path, tmp_path: Path
) -> None:
    for name in ("list.m3u8", "list.mp4", "list.ffconcat", "list.mpd"):
        (tmp_path / name).write_text(script.format(clip_path.name))
        assert f"{name}: not " in message_of(tmp_path / name)


def test_no_other_program_is_started_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    program, log = tmp_path / "gs", tmp_path / "started"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho 10.0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    picture = tmp_path / "frames" / "1.png"
    picture.parent.mkdir()
    picture.write_bytes(script)
    for source in (picture.parent, [picture], picture, script):
        with pytest.raises(VideoError):
            read_video(source)
    assert not log.exists()


def test_ffmpeg_prints_nothing(clip: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    broken = bytearray(clip)
    for place in range(len(broken) // 3, len(broken), 97):
        broken[place] ^= 0x5A
    with contextlib.suppress(VideoError):
        read_video(bytes(broken))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def run_mutated(folder: Path, seed: int, cases: int) -> None:
    """Read mutated clips in a child process; say which case broke it."""
    child = subprocess.run(
        [sys.executable, str(FUZZ), str(folder), str(seed), str(cases)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    case = folder / "case.txt"
    at = case.read_text() if case.is_file() else "before the first case"
    assert child.returncode == 0, f"{at}: exit {child.returncode}\n{child.stderr[-3000:]}"
    assert f"{cases} cases" in child.stdout


def test_mutated_clips_give_frames_or_an_error(tmp_path: Path) -> None:
    run_mutated(tmp_path, seed=0, cases=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thousands_of_mutated_clips_give_frames_or_an_error(tmp_path: Path, seed: int) -> None:
    run_mutated(tmp_path, seed, cases=3000)


def test_a_damaged_hevc_stream_does_not_wait_for_ever() -> None:
    """FFmpeg's threads that take a frame each never come back from this file."""
    file = Path(__file__).parent / "data" / "damaged_hevc.mkv"
    code = f"from slowfast_mllm.video import read_video; print(read_video({str(file)!r}).warnings)"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "could not be decoded" in child.stdout
