"""Every kind of source gives the same frames, and what is no source is refused in one line."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from video_clips import Picture, numbered_picture, strip_number

from slowfast_mllm.video import VideoError, probe_video, read_video


def numbers(frames: Picture) -> list[int]:
    return [strip_number(picture) for picture in frames]


@pytest.fixture
def pictures() -> list[Picture]:
    return [numbered_picture(number) for number in range(12)]


@pytest.fixture
def folder(pictures: list[Picture], tmp_path: Path) -> Path:
    """Pictures whose names sort wrongly as text, beside files that are none."""
    path = tmp_path / "frames"
    path.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"frame{number}.png")
    (path / "notes.txt").write_text("no picture")
    (path / ".hidden.png").write_bytes(b"no picture")
    (path / "folder.png").mkdir()
    return path


def test_files_bytes_and_streams_give_the_same(
    clip: bytes, clip_path: Path, clip_frames: Picture
) -> None:
    with clip_path.open("rb") as handle:
        sources: list[Any] = [
            clip_path,
            str(clip_path),
            os.fsencode(clip_path).decode(),
            clip,
            bytearray(clip),
            memoryview(clip),
            io.BytesIO(clip),
            handle,
        ]
        for source in sources:
            assert np.array_equal(read_video(source).frames, clip_frames)


def test_a_stream_is_read_from_where_it_stands(clip: bytes) -> None:
    stream = io.BytesIO(b"header" + clip)
    stream.seek(6)
    assert read_video(stream, num_frames=2).info.num_frames == 24


def test_a_pipe_as_a_stream_is_read_to_its_end(clip: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as sink:
            sink.write(clip)
        assert read_video(source, num_frames=2).info.num_frames == 24


def test_arrays_and_lists_give_their_pictures(pictures: list[Picture], folder: Path) -> None:
    stacked = np.stack(pictures)
    images = [Image.fromarray(picture) for picture in pictures]
    paths = [folder / f"frame{number}.png" for number in range(12)]
    for source in (stacked, torch.from_numpy(stacked), pictures, images, paths, folder):
        video = read_video(source)
        assert np.array_equal(video.frames, stacked)
        assert video.timestamps.tolist() == list(range(12))
        assert numbers(read_video(source, num_frames=3).frames) == [0, 5, 11]
        assert probe_video(source).num_frames == 12


def test_times_of_pictures_without_a_rate_are_positions_and_that_is_told(folder: Path) -> None:
    video = read_video(folder, start=2, end=5)
    assert numbers(video.frames) == [2, 3, 4]
    assert "times are positions" in video.warnings[0]
    assert "times are positions" in probe_video(folder).warnings[0]


def test_the_rate_of_frames_can_be_stated(folder: Path, pictures: list[Picture]) -> None:
    archive = folder.parent / "frames.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in folder.iterdir():
            target.write(path, path.name)
    for source in (folder, archive, pictures, np.stack(pictures)):
        video = read_video(source, frames_fps=5, start=0.4, end=1.0)
        assert video.timestamps == pytest.approx([0.4, 0.6, 0.8])
        assert numbers(video.frames) == [2, 3, 4]
        assert video.info.duration == pytest.approx(2.4)
        assert video.info.fps == pytest.approx(5)
        assert video.warnings == ()
        assert probe_video(source, frames_fps=5).duration == pytest.approx(2.4)


def test_a_rate_for_what_has_times_is_refused(clip: bytes, folder: Path) -> None:
    with pytest.raises(VideoError, match="has times of its own; leave out frames_fps"):
        read_video(clip, frames_fps=5)
    with pytest.raises(ValueError, match="frames_fps=0 must be above 0"):
        read_video(folder, frames_fps=0)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp", "gif"])
def test_a_still_picture_is_a_clip_of_one_frame(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(numbered_picture(5)).save(path, lossless=True)
    for source in (path, path.read_bytes()):
        video = read_video(source, num_frames=3)
        assert video.frame_indices.tolist() == [0, 0, 0]
        assert numbers(video.frames) == [5, 5, 5]
        assert video.info.num_frames == 1


def test_one_image_or_array_is_a_clip_of_one_frame() -> None:
    picture = numbered_picture(7)
    for source in (Image.fromarray(picture), picture, torch.from_numpy(picture), [picture]):
        video = read_video(source)
        assert np.array_equal(video.frames, picture[None])
        assert video.info.duration == 0


def test_exif_orientation_turns_stills(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbered_picture(9)).save(tmp_path / "a.png", exif=exif)
    video = read_video(tmp_path / "a.png")
    assert np.array_equal(video.frames[0], np.rot90(numbered_picture(9), -1))
    assert (video.info.width, video.info.height, video.info.rotation) == (48, 64, 90)


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animations_have_their_times(suffix: str, tmp_path: Path) -> None:
    images = [Image.fromarray(numbered_picture(number)) for number in range(5)]
    path = tmp_path / f"moving.{suffix}"
    lengths = [100, 200, 300, 400, 500]
    lossless = {"lossless": True} if suffix == "webp" else {}
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=lengths, loop=0, **lossless
    )
    video = read_video(path)
    assert numbers(video.frames) == [0, 1, 2, 3, 4]
    assert video.timestamps == pytest.approx([0, 0.1, 0.3, 0.6, 1.0])
    assert video.info.duration == pytest.approx(1.5)
    assert numbers(read_video(path, fps=2).frames) == [0, 2, 4]


def test_only_the_first_picture_of_a_camera_file_is_shown(tmp_path: Path) -> None:
    photo, preview = (Image.fromarray(numbered_picture(number)) for number in (1, 2))
    photo.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_video(tmp_path / "photo.jpg", num_frames=4).frame_indices.tolist() == [0] * 4


def test_pages_without_times_count_as_one_a_second(tmp_path: Path) -> None:
    first, *rest = (Image.fromarray(numbered_picture(number)) for number in range(4))
    first.save(tmp_path / "pages.tiff", save_all=True, append_images=rest)
    assert numbers(read_video(tmp_path / "pages.tiff", fps=1).frames) == [0, 1, 2, 3]


def jpegs(count: int, **options: Any) -> list[bytes]:
    buffers = [io.BytesIO() for _ in range(count)]
    for number, buffer in enumerate(buffers):
        Image.fromarray(numbered_picture(number)).save(buffer, "JPEG", quality=95, **options)
    return [buffer.getvalue() for buffer in buffers]


def test_jpeg_after_jpeg_is_a_video(tmp_path: Path) -> None:
    (tmp_path / "camera.mjpeg").write_bytes(b"".join(jpegs(6)))
    for source in (tmp_path / "camera.mjpeg", b"".join(jpegs(6))):
        assert numbers(read_video(source).frames) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("suffix", ["avi", "mov"])
def test_exif_in_the_frames_of_a_video_is_no_obstacle(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
        for number, data in enumerate(jpegs(4, exif=exif)):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = number
            container.mux(packet)
    assert numbers(read_video(path).frames) == [0, 1, 2, 3]


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        packet = av.Packet(*jpegs(1))
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 90000)
        container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    with pytest.raises(VideoError, match="no video stream, it holds audio, a cover picture"):
        probe_video(tmp_path / "song.m4a")


def test_a_photo_in_tiles_is_refused() -> None:
    """A HEIC of two tiles, dark and bright; FFmpeg's best stream is one of them."""
    with pytest.raises(VideoError, match=r"tiles\.heic: a picture in tiles .* convert it to jpg"):
        read_video(Path(__file__).parent / "data" / "tiles.heic")


def test_pictures_of_other_sizes_and_modes_are_brought_to_the_first() -> None:
    first = numbered_picture(1)
    grey = Image.fromarray(numbered_picture(2)).convert("L")
    large = Image.fromarray(numbered_picture(3, 128, 96))
    clear = np.dstack([numbered_picture(4), np.full((48, 64), 255, np.uint8)])
    deep = Image.fromarray(np.full((48, 64), 40_000, np.uint16))
    video = read_video([first, grey, large, clear, first[..., 0], deep])
    assert video.frames.shape == (6, 48, 64, 3)
    assert numbers(video.frames[:5]) == [1, 2, 3, 4, 1]
    assert np.all(video.frames[5] == 40_000 >> 8)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    hidden = np.dstack([numbered_picture(6), np.zeros((48, 64), np.uint8)])
    Image.fromarray(hidden).save(tmp_path / "clear.png")
    for source in (tmp_path / "clear.png", [hidden], Image.fromarray(hidden)):
        assert np.array_equal(read_video(source).frames[0], numbered_picture(6))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (42, "<int>: not a video source"),
        (None, "<NoneType>: not a video source"),
        ([], "<images>: an empty list"),
        (b"", "<bytes>: no bytes"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"<array>: shape \(2, 3, 8, 8\).*transpose"),
        (np.zeros((2, 8, 8, 3), np.float32), "<array>: float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), "<array>: shape"),
        ([np.zeros((8, 8, 2), np.uint8)], "<images> 0: shape"),
        ([3.5], "<images> 0: float"),
        (io.StringIO("text"), "<stream>: gives str"),
        ("", "no such file"),
        ("a\0b", r"a\\x00b: not a file name"),
        ("x" * 5000, "cannot be opened"),
    ],
)
def test_what_is_no_source_is_refused(source: Any, said: str) -> None:
    with pytest.raises(VideoError, match=said):
        read_video(source)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.fromarray(numbered_picture(1)).save(good, "PNG")
    path = tmp_path / "half.png"
    path.write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    for source in (path, [path]):
        with pytest.raises(VideoError, match=r"half\.png: not a readable picture"):
            read_video(source)


def data_uri(kind: str, *files: bytes) -> str:
    return f"data:{kind};base64," + ",".join(base64.b64encode(file).decode() for file in files)


def test_uris_of_files_and_data_are_sources(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a clip #1 100%.mp4"
    path.write_bytes(clip)
    frames = read_video(path, num_frames=3).frames
    encoded = path.as_uri()
    assert "%20" in encoded
    for uri in (encoded, encoded.replace("file://", "file://localhost"), f"file:{path}"):
        video = read_video(uri, num_frames=3)
        assert np.array_equal(video.frames, frames)
        assert video.info.path == str(path)
    inside = data_uri("video/mp4", clip)
    for uri in (inside, inside.rstrip("="), inside.replace("/9j", "%2F9j"), f"{inside}\n"):
        video = read_video(uri, num_frames=3)
        assert np.array_equal(video.frames, frames)
    assert video.info.path.startswith("data:video/mp4 (")


def test_frames_may_be_uris_or_bytes_or_lie_in_one_uri(folder: Path) -> None:
    files = [folder / f"frame{number}.png" for number in (3, 1, 2)]
    stored = [file.read_bytes() for file in files]
    for source in (
        [file.as_uri() for file in files],
        stored,
        [data_uri("image/png", data) for data in stored],
        data_uri("video/jpeg", *stored),
    ):
        assert numbers(read_video(source, frames_fps=2).frames) == [3, 1, 2]


def zipped(pictures: dict[str, bytes], **options: Any) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
    return target.getvalue()


def test_a_zip_of_frames_is_read_in_memory_as_a_folder_is(folder: Path, tmp_path: Path) -> None:
    beside = {"__MACOSX/shot/._frame1.png": b"no picture", "../notes.txt": b"no picture"}
    frames = {f"shot/{file.name}": file.read_bytes() for file in folder.glob("frame*.png")}
    data = zipped(beside | frames)
    (tmp_path / "frames.zip").write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    for source in (data, tmp_path / "frames.zip", data_uri("application/zip", data)):
        video = read_video(source, frames_fps=4)
        assert numbers(video.frames) == list(range(12))
        assert video.timestamps[1] == 0.25
    assert sorted(tmp_path.rglob("*")) == before


def test_zips_that_are_none_or_too_much_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = (folder / "frame1.png").read_bytes()
    good = zipped({"1.png": picture, "2.png": picture})
    encrypted = bytearray(good)
    encrypted[good.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(VideoError, match="<bytes>: an encrypted zip"):
        read_video(bytes(encrypted))
    with pytest.raises(VideoError, match="a zip without pictures"):
        read_video(zipped({"notes.txt": b"x"}))
    with pytest.raises(VideoError, match="not a readable zip"):
        read_video(good[:-30])
    with pytest.raises(VideoError, match=r"1\.png: not a readable picture"):
        read_video(zipped({"1.png": b"no picture"}))
    for limit, value in (
        ("_MAX_MEMBERS", 1),
        ("_MAX_DIRECTORY_BYTES", 60),
        ("_MAX_MEMBER_BYTES", 100),
        ("_MAX_BYTES", 2 * len(picture) - 1),
    ):
        with monkeypatch.context() as smaller:
            smaller.setattr(f"slowfast_mllm.video.archive.{limit}", value)
            with pytest.raises(VideoError, match=r"<bytes>: a (zip of more than|picture of more)"):
                read_video(good)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("file://server/share/clip.mp4", "a file of another machine"),
        ("file:///gone%20away.mp4", "/gone away.mp4: no such file"),
        ("data:video/mp4,words", "not base64"),
        ("data:video/mp4;base64,%%%%", "not valid base64"),
        ("data:video/mp4;base64," + "A" * 1_300_000, r"^data:video/mp4 \(975 KB\): not a readable"),
        (
            ["data:image/png;base64," + "A" * 1_300_000],
            r"0 \(data:image/png \(975 KB\)\): ",
        ),
        ("x" * 1_300_000, "cannot be opened"),
        (["x" * 1_300_000], "cannot be opened"),
        (f"file:///{'x' * 1_300_000}", "cannot be opened"),
        (f"file://{'x' * 1_300_000}", "another machine"),
    ],
)
def test_messages_repeat_little_of_what_was_given(source: Any, said: str) -> None:
    for reader in (read_video, probe_video):
        with pytest.raises(VideoError, match=said) as caught:
            reader(source)
        assert len(str(caught.value)) < 400
        assert "x" * 101 not in str(caught.value)
