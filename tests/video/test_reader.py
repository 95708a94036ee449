"""Reading files: seeking equals decoding everything, bit for bit, and the facts are true."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_clips import KINDS, SHARED, Picture, decode_all, encode_clip, strip_number

from slowfast_mllm.video import SampledVideo, Transform, VideoError, probe_video, read_video, reader
from slowfast_mllm.video.index import index_stream
from slowfast_mllm.video.media import Media
from slowfast_mllm.video.seeking import SeekingFailed

SEEKABLE = {
    "h264.mp4",
    "h264_fragmented.mp4",
    "h264_open_groups.mkv",
    "hevc.mkv",
    "hevc_layers.mp4",
    "vp8.webm",
    "vp9.webm",
    "mpeg4.mp4",
    "mpeg2.mkv",
    "mjpeg.mov",
}
REAL = sorted((SHARED / "videos").glob("*.*")) if SHARED.is_dir() else []
REAL = [path for path in REAL if path.suffix != ".json"]


@pytest.fixture
def seeking_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Falling back to a sequential decode is a failure."""

    def refuse(*_: Any) -> SampledVideo:
        raise AssertionError("decoded from the start")

    with monkeypatch.context() as patch:
        patch.setattr(reader, "_read_from_start", refuse)
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_all_its_frames(kind: str) -> None:
    data = encode_clip(kind)
    video = read_video(data)
    assert np.array_equal(video.frames, np.stack(decode_all(io.BytesIO(data))))
    assert [strip_number(picture) for picture in video.frames] == list(range(24))
    assert video.timestamps == pytest.approx(np.arange(24) / 24, abs=0.006)  # gif: 1/100 s
    assert video.info.duration == pytest.approx(1.0, abs=0.002)
    assert video.warnings == ()
    assert probe_video(data) == video.info


@pytest.mark.parametrize("kind", sorted(SEEKABLE))
@pytest.mark.usefixtures("seeking_only")
def test_single_frames_are_reached_by_seeking(kind: str) -> None:
    data = encode_clip(kind)
    everything = np.stack(decode_all(io.BytesIO(data)))
    for wanted in ({"num_frames": 5}, {"fps": 7.0}, {"start": 0.4, "end": 0.8}, {"start": 0.95}):
        video = read_video(data, **wanted)  # type: ignore[arg-type]
        assert np.array_equal(video.frames, everything[video.frame_indices])


@pytest.mark.parametrize("source", ["h264.mp4", "h264.ts", "array"])
def test_pictures_are_transformed_as_they_come(source: str) -> None:
    """By seeking, by decoding everything, and from arrays: as if done afterwards."""

    def halved(picture: Picture) -> Picture:
        return np.ascontiguousarray(picture[::2, ::2])

    half = Transform(lambda height, width: (-(-height // 2), -(-width // 2)), halved)
    data: Any = encode_clip("h264.mp4" if source == "array" else source)
    if source == "array":
        data = read_video(data).frames
    plain = read_video(data, num_frames=30)
    small = read_video(data, num_frames=30, transform=half)
    assert np.array_equal(small.frames, np.stack([halved(picture) for picture in plain.frames]))
    assert np.array_equal(small.timestamps, plain.timestamps)
    assert small.info == plain.info


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_seeking_equals_decoding_everything_on_real_clips(path: Path) -> None:
    chosen: dict[int, Picture] = {}
    videos = [read_video(path, num_frames=16), read_video(path, num_frames=4, start=1.1, end=2.3)]
    wanted = {int(index) for video in videos for index in video.frame_indices}
    stamps = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_type, stream.thread_count = "NONE", 1
        for number, frame in enumerate(container.decode(stream)):
            stamps.append(frame.time)
            if number in wanted:
                chosen[number] = frame.to_ndarray(format="rgb24")
    for video in videos:
        assert video.info.num_frames == len(stamps)
        expected = np.stack([chosen[int(index)] for index in video.frame_indices])
        assert np.array_equal(video.frames, expected)
        times = np.array(stamps)[video.frame_indices] - stamps[0]
        assert video.timestamps == pytest.approx(times, abs=1e-6)


def test_a_frame_that_does_not_appear_is_looked_for_from_the_start(
    clip: bytes, clip_frames: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise SeekingFailed("as if")

    monkeypatch.setattr(reader, "decode_by_seeking", fail)
    video = read_video(clip, num_frames=6)
    assert np.array_equal(video.frames, clip_frames[video.frame_indices])
    assert video.warnings == ()


def test_real_times_of_variable_rate_are_used() -> None:
    stamps = [0, 10, 20, 400, 410, 1000, 1700, 1710]
    video = read_video(encode_clip("hevc.mkv", 8, stamps=stamps))
    assert video.timestamps == pytest.approx(np.array(stamps) / 1000)
    seen = read_video(encode_clip("hevc.mkv", 8, stamps=stamps), fps=2).frames
    assert [strip_number(picture) for picture in seen] == [0, 4, 5, 5]


def test_times_count_from_the_first_frame() -> None:
    stamps = [5000 + 40 * number for number in range(8)]
    video = read_video(encode_clip("hevc.mkv", 8, stamps=stamps), start=0.08, end=0.2)
    assert video.timestamps == pytest.approx([0.08, 0.12, 0.16])
    assert [strip_number(picture) for picture in video.frames] == [2, 3, 4]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_display_matrix_is_applied(degrees: int, mirrored: bool) -> None:
    def turn(stream: Any) -> None:
        stream.set_display_rotation(-degrees, hflip=mirrored)

    data = encode_clip("h264.mp4", 2, setup=turn)
    upright = read_video(data).frames[0]
    stored = decode_all(io.BytesIO(data))[0]
    turned = np.rot90(stored, -degrees // 90)
    assert np.array_equal(upright, turned[:, ::-1] if mirrored else turned)
    assert probe_video(data).rotation == degrees


@pytest.mark.parametrize(
    ("aspect", "size"), [((16, 9), (114, 48)), ((1, 2), (64, 96)), ((1, 1), (64, 48))]
)
def test_the_sample_aspect_ratio_enlarges(aspect: tuple[int, int], size: tuple[int, int]) -> None:
    def stretch(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)

    data = encode_clip("h264.mp4", 2, setup=stretch)
    info = probe_video(data)
    assert (info.width, info.height) == size
    assert read_video(data).frames.shape == (2, size[1], size[0], 3)


def test_a_result_that_is_too_large_names_the_remedy(
    clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slowfast_mllm.video.picture.MAX_OUTPUT_BYTES", 100_000)
    with pytest.raises(VideoError, match=r"24 frames of 64x48 .* num_frames="):
        read_video(clip)
    assert len(read_video(clip, num_frames=4).frames) == 4


def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(
    clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slowfast_mllm.video.picture.MAX_SIDE", 60)
    with pytest.raises(VideoError, match="64x48"):
        read_video(clip)


def test_an_index_says_which_files_can_be_trusted() -> None:
    indices = {kind: index_stream(Media("x", data=encode_clip(kind))) for kind in KINDS}
    assert {kind for kind, index in indices.items() if index.exact} == SEEKABLE
    # Upper layers may refer to pictures that the layer below marks as never referred to.
    assert indices["hevc.mkv"].droppable
    assert not indices["hevc_layers.mp4"].droppable


def test_hidden_pictures_are_not_counted() -> None:
    data = bytearray(encode_clip("vp8.webm"))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data[data.find(packets[5])] &= ~0x10  # the bit that says "shown"
    video = read_video(bytes(data))
    assert len(video.frames) == video.info.num_frames == 23
    assert 5 not in [strip_number(picture) for picture in video.frames]
    assert len(read_video(bytes(data), num_frames=30).frames) == 30


def test_a_cut_file_gives_its_start_and_a_warning() -> None:
    data = encode_clip("h264_fragmented.mp4", 48)
    video = read_video(data[: len(data) * 2 // 3])
    assert 8 <= len(video.frames) < 48
    seen = [strip_number(picture) for picture in video.frames]
    assert seen == list(range(len(seen)))
    assert "bytes are missing" in video.warnings[0]
    assert probe_video(data[: len(data) * 2 // 3]) == video.info


def test_facts_are_json(clip: bytes) -> None:
    facts = probe_video(clip).to_dict()
    assert facts == {
        "path": "<bytes>",
        "num_frames": 24,
        "duration": 1.0,
        "fps": 24.0,
        "width": 64,
        "height": 48,
        "codec": "h264",
        "rotation": 0,
        "has_audio": False,
        "colour_primaries": "bt709",
        "colour_transfer": "bt709",
        "colour_matrix": "smpte170m",
        "colour_range": "limited",
        "colour_assumed": ["primaries", "transfer", "matrix", "range"],
        "warnings": [],
    }
