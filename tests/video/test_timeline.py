"""When frames are shown: stamps in any order, joined recordings, bare streams, one clock."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from video_clips import SHARED, numbered_picture, strip_number

from slowfast_mllm.video import SampledVideo, VideoError, probe_video, read_video
from slowfast_mllm.video.index import index_stream
from slowfast_mllm.video.media import Media
from slowfast_mllm.video.timeline import Clock

CASES = SHARED / "cases" / "time"
MS = Fraction(1, 1000)
B_FRAMES = "keyint=8:min-keyint=8:bframes=3:b-adapt=0:b-pyramid=none"
PYRAMID = "keyint=8:min-keyint=8:bframes=3:b-adapt=0:b-pyramid=strict:open-gop=1"
TWO_SECONDS = range(0, 2000, 40)


def encode(
    container_format: str,
    stamps: Any = TWO_SECONDS,
    *,
    sound: float = 0.0,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: int = 25,
    muxer: dict[str, str] | None = None,
) -> bytes:
    """Numbered frames at `stamps` (ms), and silence from 0 on for `sound` seconds."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format, container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options or {}
        if codec == "libx264":
            stream.options = options or {"x264-params": B_FRAMES}
            counted = container_format in ("h264", "avi", "asf")
            stream.codec_context.time_base = Fraction(1, rate) if counted else MS
        audio = container.add_stream("aac", rate=48000) if sound else None
        packets = []
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number % 256), format="rgb24")
            frame.pts, frame.time_base = stamp, MS
            packets += stream.encode(frame.reformat(format=stream.pix_fmt))
        packets += stream.encode(None)
        if audio is not None:
            audio.layout = "mono"
            for start in range(0, round(sound * 48000), 1024):
                silence = np.zeros((1, 1024), np.float32)
                heard = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 48000, start, Fraction(1, 48000)
                packets += audio.encode(heard)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return buffer.getvalue()


def copied(data: bytes, container_format: str) -> bytes:
    """The same packets with the same stamps in another container."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(buffer, "w", format=container_format) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return buffer.getvalue()


def check_order(source: Any, numbers: Iterable[int]) -> SampledVideo:
    """All frames come in order, those that are chosen are the same, and so are the facts."""
    video = read_video(source)
    assert [strip_number(picture) for picture in video.frames] == list(numbers)
    few = read_video(source, num_frames=7)
    assert np.array_equal(few.frames, video.frames[few.frame_indices])
    assert np.array_equal(few.timestamps, video.timestamps[few.frame_indices])
    assert probe_video(source) == video.info
    return video


@pytest.mark.parametrize("target", ["", "mp4", "matroska"])
@pytest.mark.parametrize(
    ("container_format", "codec", "params"),
    [
        ("avi", "libx264", B_FRAMES),
        ("avi", "libx264", PYRAMID),
        ("asf", "libx264", B_FRAMES),
        ("avi", "mpeg4", ""),
    ],
)
def test_stamps_in_the_order_of_coding_are_put_in_that_of_showing(
    container_format: str, codec: str, params: str, target: str
) -> None:
    options = {"x264-params": params} if params else {"bf": "2", "g": "8"}
    data = encode(container_format, codec=codec, options=options)
    video = check_order(copied(data, target) if target else data, range(50))
    assert video.timestamps == pytest.approx(np.arange(50) / 25, abs=0.002)
    assert video.info.duration == pytest.approx(2.0, abs=0.003)
    assert video.warnings == ()


def test_what_could_be_reordered_and_is_not_is_reached_by_seeking() -> None:
    pairs = {"x264-params": "keyint=2:bframes=2:b-adapt=0"}  # no room for a B frame
    index = index_stream(Media("x", data=encode("mp4", options=pairs)))
    assert index.clock.in_decode_order
    assert index.exact


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 40, 40, 120, 160, 160, 240], [0, 40, 80, 120, 160, 200, 240]),
        ([0, 40, 80, 120, 160, 160], [0, 40, 80, 120, 160, 200]),
        ([0, 40, 80, 80, 9080], [0, 40, 80, 120, 9080]),  # a pause is a pause
        ([0, 40, 80, 79, 160, 159, 240], [0, 40, 80, 120, 160, 200, 240]),  # jitter
        ([0, 40, 80, 0, 40, 80], [0, 40, 80, 120, 160, 200]),
        ([None, 40, None, 120], [0, 40, 80, 120]),
    ],
)
def test_repeated_missing_and_restarted_stamps_do_not_drift(
    stamps: list[int | None], times: list[int]
) -> None:
    timeline = Clock(MS, rate=Fraction(25)).timeline(stamps)
    assert timeline.timestamps * 1000 == pytest.approx(np.array(times))
    assert "mended" in timeline.warnings[0]


PAUSE = [*TWO_SECONDS, *range(62000, 64000, 40)]


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("mp4", lambda: encode("mp4", PAUSE)),
        ("sound goes on", lambda: encode("mpegts", PAUSE, sound=64)),
        ("the clock goes on", lambda: encode("mpegts", PAUSE, muxer={"muxrate": "300000"})),
        ("slides", lambda: encode("mpegts", [0, 60000, 120000, 180000])),
    ],
)
def test_pauses_are_kept(what: str, data: Any) -> None:
    video = read_video(data())
    assert float(np.diff(video.timestamps).max()) == pytest.approx(60.04, abs=0.05), what
    assert video.warnings == ()


@pytest.mark.parametrize("sound", [0.0, 2.0])
def test_a_jump_in_which_nothing_was_recorded_is_left_out(sound: float) -> None:
    later = [stamp + 3600_000 for stamp in TWO_SECONDS]
    joined = encode("mpegts", sound=sound) + encode("mpegts", later)
    video = read_video(joined)
    assert [strip_number(picture) for picture in video.frames] == 2 * list(range(50))
    assert video.timestamps == pytest.approx(np.arange(100) / 25, abs=0.03)
    assert "jumps ahead by 3597.96 s" in video.warnings[0]
    assert read_video(joined, start=3).timestamps[0] == pytest.approx(3, abs=0.03)


@pytest.mark.parametrize(
    ("container_format", "codec", "options"),
    [
        ("h264", "libx264", {}),
        ("hevc", "libx265", {"x265-params": "log-level=none"}),
        ("m4v", "mpeg4", {"bf": "2"}),
        ("mpeg2video", "mpeg2video", {"bf": "2"}),
        ("mpeg1video", "mpeg1video", {"bf": "2"}),
    ],
)
def test_a_bare_stream_has_the_rate_that_it_tells(
    container_format: str, codec: str, options: dict[str, str]
) -> None:
    stamps = [round(number * 1000 / 30) for number in range(30)]
    video = check_order(
        encode(container_format, stamps, codec=codec, options=options, rate=30), range(30)
    )
    assert video.timestamps == pytest.approx(np.arange(30) / 30, abs=1e-4)
    assert video.info.duration == pytest.approx(1.0, abs=1e-4)
    assert video.info.fps == pytest.approx(30)
    assert video.warnings == ()


@pytest.mark.parametrize("told", [True, False])
def test_a_bare_av1_stream_tells_its_rate_or_that_it_is_assumed(told: bool) -> None:
    data = encode("obu", codec="libsvtav1", rate=30, options={"preset": "12"})
    if told:
        data = _with_timing(data)
    info = probe_video(data)
    assert (info.num_frames, info.fps) == (50, pytest.approx(30 if told else 25))
    assert [line for line in info.warnings if "taken as 25 a second" in line] == [*info.warnings]
    assert bool(info.warnings) != told


def _with_timing(data: bytes) -> bytes:
    with av.open(io.BytesIO(data)) as container:
        packets = list(container.demux(video=0))
        timing = "av1_metadata=tick_rate=30:num_ticks_per_picture=1"
        add = BitStreamFilterContext(timing, container.streams.video[0])
        return b"".join(bytes(changed) for packet in packets for changed in add.filter(packet))


def test_motion_jpeg_without_a_container_says_that_its_rate_is_assumed() -> None:
    info = probe_video(encode("mjpeg", range(0, 400, 40), codec="mjpeg"))
    assert info.duration == pytest.approx(0.4)
    assert "taken as 25 a second" in info.warnings[0]


LATE = range(2000, 4000, 40)


@pytest.mark.parametrize("container_format", ["mp4", "matroska", "mpegts", "flv"])
def test_the_clock_starts_with_the_sound(container_format: str) -> None:
    data = encode(container_format, LATE, sound=4)
    video = check_order(data, range(50))
    late = 0.022 if container_format in ("mpegts", "flv") else 0.001  # unsigned priming
    assert video.timestamps == pytest.approx(np.arange(2, 4, 0.04), abs=late)
    assert video.info.duration == pytest.approx(4, abs=late)
    assert video.info.fps == pytest.approx(25, abs=0.1)
    bounded = read_video(data, start=2.5, end=3)
    assert bounded.timestamps[0] == pytest.approx(2.5, abs=0.04)
    assert bounded.timestamps[-1] < 3
    assert read_video(data, fps=1).frame_indices.tolist() == [0, 25]
    assert read_video(data, num_frames=2).frame_indices.tolist() == [0, 49]
    with pytest.raises(VideoError, match="before its first frame at 2"):
        read_video(data, end=1)


@pytest.mark.parametrize("container_format", ["mp4", "matroska", "mpegts", "flv", "avi", "asf"])
def test_silence_that_encoders_put_in_front_moves_no_picture(container_format: str) -> None:
    video = read_video(encode(container_format, sound=3))
    assert video.timestamps == pytest.approx(np.arange(50) / 25, abs=0.002)
    assert video.info.duration == pytest.approx(2, abs=0.003)


def test_without_sound_the_clock_starts_with_the_picture() -> None:
    assert read_video(encode("matroska", LATE)).timestamps[0] == 0


CASE_FILES = {
    "h264_b.avi": (50, 2.0, ""),
    "nogen_h_ffmpeg.mp4": (50, 2.0, ""),
    "packed.avi": (51, 2.04, ""),
    "dup10.mp4": (50, 2.0, "repeated"),
    "ts_jump_3600s.ts": (100, 4.0, "jumps ahead by 3597.92 s"),
    "vui30.h264": (50, 50 / 30, ""),
    "audio_first.mp4": (50, 4.0, ""),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared data beside the checkout")
@pytest.mark.parametrize("name", CASE_FILES)
def test_shared_cases(name: str) -> None:
    count, duration, warning = CASE_FILES[name]
    numbers = [*range(50), *range(100, 150)] if name == "ts_jump_3600s.ts" else range(count)
    video = check_order(CASES / name, numbers)
    assert video.info.duration == pytest.approx(duration, abs=1e-3)
    first = 2.0 if name == "audio_first.mp4" else 0.0
    steps = np.linspace(first, duration, count, endpoint=False)
    assert video.timestamps == pytest.approx(steps, abs=1e-3)
    assert [warning in line for line in video.warnings] == [True] * bool(warning)


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared data beside the checkout")
def test_a_shared_folder_of_frames_at_its_rate() -> None:
    video = read_video(CASES / "frames_5_a_second", frames_fps=5)
    assert video.timestamps == pytest.approx(np.arange(len(video.frames)) / 5)
    assert video.info.duration == pytest.approx(len(video.frames) / 5)
    assert video.warnings == ()
