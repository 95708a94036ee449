"""Every odd file of the shared set against what its manifest demands of a robust reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from video_clips import ODD, Picture, odd_entries, strip_number

from slowfast_mllm.video import SampledVideo, VideoError, probe_video, read_video

ENTRIES = odd_entries()
TOLERANCE = 3

if not ENTRIES:
    pytest.skip("no shared data beside the checkout", allow_module_level=True)


def entries(*kinds: str, having: str = "file") -> Any:
    """A parametrisation over the files whose `expect` is one of `kinds` and that state `having`."""
    chosen = [entry for entry in ENTRIES if entry["expect"] in kinds and having in entry]
    return pytest.mark.parametrize("entry", chosen, ids=[entry["file"] for entry in chosen])


def read(entry: dict[str, Any], **arguments: Any) -> SampledVideo:
    return read_video(ODD / entry["file"], **arguments)


def means(picture: Picture) -> Picture:
    return picture.reshape(-1, 3).mean(axis=0)


def expected_strip(entry: dict[str, Any]) -> list[int] | None:
    strip = entry.get("index_strip")
    if isinstance(strip, str):
        first, last = map(int, strip.split(".."))
        return list(range(first, last + 1))
    return strip


@entries("decode", "image")
def test_gives_exactly_its_frames(entry: dict[str, Any]) -> None:
    video = read(entry)
    assert len(video.frames) == video.info.num_frames == entry["frames"]
    assert video.frame_indices.tolist() == list(range(entry["frames"]))
    assert probe_video(ODD / entry["file"]) == video.info


@entries("decode", "image", having="index_strip")
def test_shows_the_right_frames_in_order(entry: dict[str, Any]) -> None:
    seen = [strip_number(picture) for picture in read(entry).frames]
    assert seen == expected_strip(entry)


@entries("decode", "image", "decode_partial", "decode_or_error", having="first_frame_mean_rgb")
def test_has_the_right_colours(entry: dict[str, Any]) -> None:
    frames = read(entry).frames
    for end, picture in (("first", frames[0]), ("last", frames[-1])):
        key = f"{end}_frame_mean_rgb"
        assert means(picture) == pytest.approx(np.array(entry[key]), abs=TOLERANCE)


@entries("decode")
def test_gives_the_real_times(entry: dict[str, Any]) -> None:
    times = read(entry).timestamps
    expected = entry.get("pts_s")
    if expected is None:
        expected = [entry["first_pts_s"], entry["last_pts_s"]]
        times = times[[0, -1]]
    if entry["file"] == "size_change.ts":
        expected = [0.0, 39 / 30]  # two streams glued together: its own stamps overlap
    assert times == pytest.approx(np.array(expected) - expected[0], abs=1e-3)


@entries("decode_partial", "decode_or_error")
def test_a_damaged_file_gives_what_is_left_and_a_warning(entry: dict[str, Any]) -> None:
    video = read(entry)
    if entry["file"] == "animated.webp":
        assert len(video.frames) == entry["frames_if_supported"]
        return
    assert entry["frames_min"] <= len(video.frames) <= entry["frames_max"]
    assert len(video.frames) == entry["frames"]
    assert video.warnings
    assert probe_video(ODD / entry["file"]) == video.info
    strip = expected_strip(entry)
    if strip is not None:
        seen = [strip_number(picture) for picture in video.frames]
        assert seen[:48] == strip[:48]


def test_the_whole_groups_around_damage_are_intact() -> None:
    video = read_video(ODD / "corrupt_middle.mp4")
    seen = [strip_number(picture) for picture in video.frames]
    assert seen[:30] == list(range(30))
    assert seen[-30:] == list(range(60, 90))


@entries("error")
def test_an_unreadable_file_is_named_in_one_line(entry: dict[str, Any]) -> None:
    for reader in (read_video, probe_video):
        with pytest.raises(VideoError) as caught:
            reader(ODD / entry["file"])
        message = str(caught.value)
        assert entry["file"] in message
        assert "\n" not in message


@entries("decode", "image", having="first_frame_upright_quadrant_mean_rgb")
def test_stands_upright(entry: dict[str, Any]) -> None:
    video = read(entry)
    width, height = entry["upright_size"]
    assert (video.info.width, video.info.height) == (width, height)
    assert video.frames.shape[1:3] == (height, width)
    top, bottom = np.split(video.frames[0], [height // 2])
    parts = {
        "top_left": top[:, : width // 2],
        "top_right": top[:, width // 2 :],
        "bottom_left": bottom[:, : width // 2],
        "bottom_right": bottom[:, width // 2 :],
    }
    for place, wanted in entry["first_frame_upright_quadrant_mean_rgb"].items():
        assert means(parts[place]) == pytest.approx(np.array(wanted), abs=TOLERANCE), place


def test_turns_are_told_clockwise() -> None:
    names = ("rotated_cw90.mp4", "rotated_180.mp4", "rotated_ccw90.mp4", "still_exif_rotate90.jpg")
    assert [probe_video(ODD / name).rotation for name in names] == [90, 180, 270, 90]


def test_sizes_are_those_shown() -> None:
    for name, size in {
        "anamorphic_sar_16_9.mp4": (320, 180),
        "size_17x31_h264_444.mp4": (17, 31),
        "size_1x1.webm": (1, 1),
        "size_change.ts": (320, 180),
        "two_video_streams.mp4": (320, 180),
        "cover_art_first.mp4": (320, 180),
    }.items():
        info = probe_video(ODD / name)
        assert (info.width, info.height) == size, name


def test_rates_and_durations_come_from_the_frames() -> None:
    assert probe_video(ODD / "fps_one_per_10s.mp4").fps == pytest.approx(0.1)
    assert probe_video(ODD / "fps_240.mp4").fps == pytest.approx(240)
    assert probe_video(ODD / "start_at_10s.mkv").duration == pytest.approx(1.0)
    assert probe_video(ODD / "audio_longer_than_video.mp4").duration == pytest.approx(0.5)
    assert probe_video(ODD / "vp9_no_duration.webm").duration == pytest.approx(1.5)


def test_codecs_and_sound_are_told() -> None:
    assert probe_video(ODD / "av1.mp4").codec == "av1"
    assert probe_video(ODD / "hevc_10bit.mp4").codec == "hevc"
    assert probe_video(ODD / "audio_stream_first.mp4").has_audio
    assert not probe_video(ODD / "three_frames.mp4").has_audio


def test_transparent_gif_pixels_are_white_without_trails() -> None:
    for picture in read_video(ODD / "transparent.gif").frames:
        assert np.any(picture != 255, axis=-1).sum() == 16 * 16


def test_grey_video_is_grey() -> None:
    frames = read_video(ODD / "gray.mp4").frames
    assert np.all(frames == frames[..., :1])


def test_hidden_frames_of_an_edit_list_are_never_sampled() -> None:
    video = read_video(ODD / "bframes_edit_list.mp4", num_frames=5)
    assert [strip_number(picture) for picture in video.frames] == [15, 33, 52, 70, 89]


def test_more_frames_than_there_are_repeat_the_last() -> None:
    video = read_video(ODD / "three_frames.mp4", num_frames=8)
    assert video.frame_indices.tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert [strip_number(picture) for picture in video.frames] == [0, 1, 2, 2, 2, 2, 2, 2]


def test_sampling_by_time_uses_the_real_times() -> None:
    video = read_video(ODD / "vfr.mp4", fps=1)
    assert [strip_number(picture) for picture in video.frames] == [0, 13, 18, 31, 33, 35, 37, 39]
