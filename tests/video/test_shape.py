"""Pictures have the shape a viewer sees: crops, eyes, tracks, and sizes that change on the way."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from video_clips import SHARED, Picture, encode_clip, numbered_picture, strip_number

from slowfast_mllm.video import VideoError, VideoInfo, media, probe_video, read_video
from slowfast_mllm.video.aperture import shown_window
from slowfast_mllm.video.fitting import fitted_size
from slowfast_mllm.video.media import Media

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no shared case files")


def case(name: str, **wanted: Any) -> tuple[VideoInfo, Picture]:
    """Facts and frames of a shared case; probing and reading must tell the same."""
    video = read_video(CASES / name, **wanted)
    assert video.info == probe_video(CASES / name)
    assert video.frames.shape[1:3] == (video.info.height, video.info.width)
    return video.info, video.frames


def jpeg_clip(sizes: list[tuple[int, int]], format: str) -> bytes:
    """Motion JPEG whose pictures have these sizes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p"
        container.start_encoding()
        for number, size in enumerate(sizes):
            data = io.BytesIO()
            Image.fromarray(numbered_picture(number, *size)).save(data, "JPEG", quality=95)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
    return buffer.getvalue()


# ---- sizes that change ---------------------------------------------------------------------------


@pytest.mark.parametrize("seekable", [True, False])
def test_a_picture_of_another_aspect_is_fitted_in_by_seeking_or_not(seekable: bool) -> None:
    sizes = [(96, 48), (96, 48), (48, 96), (192, 96)]
    data = jpeg_clip(sizes, "mov") if seekable else b"".join(_jpegs(sizes))
    video = read_video(data)
    assert video.frames.shape == (4, 48, 96, 3)
    assert [strip_number(video.frames[i]) for i in (0, 1, 3)] == [0, 1, 3]
    turned = video.frames[2]
    assert not turned[:, :34].max()
    assert not turned[:, 62:].max()
    assert strip_number(turned[:, 36:60]) == 2
    told = [line for line in video.warnings if "the picture changes" in line]
    assert told == ["the picture changes to 48x96: fitted into 96x48 with black borders"]
    assert probe_video(data).warnings == video.warnings


def _jpegs(sizes: list[tuple[int, int]]) -> list[bytes]:
    buffers = [io.BytesIO() for _ in sizes]
    for number, (buffer, size) in enumerate(zip(buffers, sizes, strict=True)):
        Image.fromarray(numbered_picture(number, *size)).save(buffer, "JPEG", quality=95)
    return [buffer.getvalue() for buffer in buffers]


def test_pictures_of_one_aspect_are_scaled_without_a_word() -> None:
    assert read_video(jpeg_clip([(64, 48), (128, 96), (32, 24)], "mov")).warnings == ()
    # What WebRTC sends of 16:9 when the line is bad, and a codec's whole blocks.
    assert fitted_size((426, 240), (640, 360)) == (640, 360)
    assert fitted_size((1920, 1080), (1920, 1088)) == (1920, 1088)
    assert fitted_size((90, 160), (160, 90)) == (51, 90)


@needs_cases
@pytest.mark.parametrize(("name", "size"), [("turned.mp4", "90x160"), ("turned.webm", "180x320")])
def test_a_turned_phone_is_not_squeezed(name: str, size: str) -> None:
    info, frames = case(f"shape/{name}", num_frames=8)
    assert len(info.warnings) == 1
    assert f"changes to {size}" in info.warnings[0]
    side = info.width // 3
    assert not frames[-1][:, :side].max()
    assert not frames[-1][:, -side:].max()
    if name.endswith("webm"):  # a white square, which stays one
        rows, columns = np.nonzero(frames[-1][..., 0] > 127)
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


# ---- what a file hides ---------------------------------------------------------------------------


def element(identifier: int, payload: bytes) -> bytes:
    """An EBML element with a size of four bytes."""
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (0x10000000 | len(payload)).to_bytes(4, "big") + payload


def box(kind: bytes, *payload: bytes) -> bytes:
    body = b"".join(payload)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def matroska_with_crop(*crops: int) -> bytes:
    """Two tracks: sound, and pictures with PixelCrop left, top, right, bottom."""
    values = zip((0x54CC, 0x54BB, 0x54DD, 0x54AA), crops, strict=True)
    video = b"".join(element(name, value.to_bytes(2, "big")) for name, value in values)
    sound = element(0xAE, element(0x83, b"\2"))
    picture = element(0xAE, element(0x83, b"\1") + element(0xE0, video))
    tracks = element(0x1654AE6B, sound + picture)
    return element(0x1A45DFA3, b"") + element(0x18538067, element(0xEC, b"\0" * 9) + tracks)


def mp4_with_clap(*numbers: int) -> bytes:
    clap = box(b"clap", *(number.to_bytes(4, "big", signed=True) for number in numbers))
    entries = box(b"stsd", b"\0" * 8, box(b"avc1", b"\0" * 78, box(b"pasp", b"\0" * 8), clap))
    handler = box(b"hdlr", b"\0" * 8, b"vide")
    media = box(b"mdia", handler, box(b"minf", box(b"stbl", entries)))
    sound = box(b"trak", box(b"mdia", box(b"hdlr", b"\0" * 8, b"soun")))
    return box(b"ftyp", b"isom") + box(b"moov", sound, box(b"trak", media))


@pytest.mark.parametrize(
    ("data", "window"),
    [
        (matroska_with_crop(20, 8, 20, 8), (20, 8, 120, 80)),
        (matroska_with_crop(0, 0, 0, 0), None),
        (matroska_with_crop(100, 0, 100, 0), None),  # nothing would be left
        (mp4_with_clap(120, 1, 64, 1, 0, 1, 0, 1), (20, 16, 120, 64)),
        (mp4_with_clap(120, 1, 64, 1, -20, 1, 32, 2), (0, 32, 120, 64)),
        (mp4_with_clap(120, 0, 64, 1, 0, 1, 0, 1), None),
        (mp4_with_clap(120, 1, 64, 1, 90, 1, 0, 1), None),  # beyond the picture's edge
    ],
)
def test_containers_tell_what_is_shown(data: bytes, window: tuple[int, ...] | None) -> None:
    assert shown_window(Media("x", data=data), 0, (160, 96)) == window
    for end in range(0, len(data), 3):  # cut anywhere: no error
        shown_window(Media("x", data=data[:end]), 0, (160, 96))


@needs_cases
@pytest.mark.parametrize(("name", "size"), [("crop.mkv", (133, 80)), ("clap.mp4", (120, 64))])
def test_what_the_container_hides_is_cut_off(name: str, size: tuple[int, int]) -> None:
    info, frames = case(f"shape/{name}", num_frames=4)
    assert (info.width, info.height, info.warnings) == (*size, ())
    assert frames[0][0, 0].tolist() == pytest.approx([255, 0, 0], abs=40)


def with_entry_box(data: bytes, extra: bytes) -> bytes:
    """An mp4 whose index comes last, with one more box in the description of its pictures."""
    result = bytearray(data)
    end = 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        start = result.index(kind, end) - 4
        end = start + 8
        length = int.from_bytes(result[start : start + 4], "big")
        result[start : start + 4] = (length + len(extra)).to_bytes(4, "big")
    result[start + length : start + length] = extra
    return bytes(result)


def test_clap_and_st3d_of_an_mp4_are_obeyed() -> None:
    data = encode_clip("h264.mp4", 3, size=(128, 48))
    plain = read_video(data).frames
    numbers = (64, 1, 32, 1, 32, 1, -8, 1)
    clap = box(b"clap", *(number.to_bytes(4, "big", signed=True) for number in numbers))
    clean = read_video(with_entry_box(data, clap))
    assert np.array_equal(clean.frames, plain[:, :32, 64:])
    assert probe_video(with_entry_box(data, clap)).width == 64
    stereo = read_video(with_entry_box(data, box(b"st3d", b"\0" * 4, b"\2")))
    assert np.array_equal(stereo.frames, plain[:, :, :64])
    assert "side by side" in stereo.warnings[0]


@pytest.mark.parametrize("mode", ["left_right", "right_left", "top_bottom"])
def test_one_eye_of_a_stereo_file_is_seen(mode: str) -> None:
    data = encode_clip("hevc.mkv", 2, size=(128, 48) if "left" in mode else (64, 96))
    packed = _with_metadata(data, stereo_mode=mode)
    stored, video = read_video(data).frames, read_video(packed)
    assert video.frames.shape[1:3] == (48, 64)
    first = stored[:, :48, :64]
    expected = stored[:, :, 64:] if mode == "right_left" else first
    assert np.array_equal(video.frames, expected)
    assert "stereo" in video.warnings[0]
    assert len(video.warnings) == 1


def _with_metadata(data: bytes, **metadata: str) -> bytes:
    """The same packets in a Matroska file whose track has these tags."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.metadata.update(metadata)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return buffer.getvalue()


@needs_cases
def test_an_eye_that_was_stored_squeezed_is_stretched() -> None:
    info, _ = case("shape/stereo_sbs.mkv", num_frames=4)
    assert (info.width, info.height) == (160, 96)


# ---- which track, which format -------------------------------------------------------------------


def test_the_first_of_two_equal_tracks_is_read() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            for stream, picture in zip(streams, (number, 100 + 7 * number), strict=True):
                frame = av.VideoFrame.from_ndarray(numbered_picture(picture), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    video = read_video(buffer.getvalue())
    assert [strip_number(frame) for frame in video.frames] == [0, 1, 2, 3, 4, 5]
    assert video.warnings == ("2 video tracks alike: number 1 is looked at",)


@needs_cases
def test_the_first_of_two_equal_tracks_of_a_case_is_read() -> None:
    info, frames = case("shape/two_equal.mp4")
    assert "number 1" in info.warnings[0]
    assert [strip_number(frame) for frame in frames] == list(range(20))


@needs_cases
def test_an_encrypted_file_is_called_so() -> None:
    with pytest.raises(VideoError, match="encrypted"):
        probe_video(CASES / "doors/cenc.mp4")


def test_an_encrypted_webm_is_called_so() -> None:
    data = encode_clip("vp9.webm", 4)
    tracks = data.rindex((0x1654AE6B).to_bytes(4, "big"))  # the index at the front names it, too
    end = tracks + 5 + (data[tracks + 4] & 0x7F)
    entry = data[tracks + 14 : end]  # of the one track, whose size takes eight bytes
    key = element(0x5035, element(0x47E1, b"\5") + element(0x47E2, b"k" * 16))
    encryption = element(0x6D80, element(0x6240, element(0x5033, b"\1") + key))
    segment = data.index((0x18538067).to_bytes(4, "big")) + 4
    unknown_size = b"\1" + b"\xff" * 7
    changed = element(0x1654AE6B, element(0xAE, entry + encryption))
    with pytest.raises(VideoError, match="encrypted"):
        probe_video(
            data[:segment] + unknown_size + data[segment + 8 : tracks] + changed + data[end:]
        )


@needs_cases
def test_recorders_files_are_read() -> None:
    info, frames = case("doors/dahua.dav")
    assert (info.num_frames, info.duration, info.warnings) == (50, pytest.approx(2.0), ())
    assert [strip_number(frame) for frame in frames] == list(range(50))


# FFmpeg's demuxers that open other files, URLs or devices than the file they were given, by what it
# says: those with `io_open`, a protocol or a device in their source.
OPEN_OTHERS = (
    *("concat", "dash", "dvdvideo", "hls", "image2", "imf", "mlv", "vobsub", "avisynth"),
    *("vapoursynth", "rtp", "rtsp", "sap", "sdp", "lavfi", "alsa", "fbdev", "jack", "kmsgrab"),
    *("libcdio", "dc1394", "openal", "oss", "pulse", "sndio", "v4l2", "video4linux2", "x11grab"),
    *("xcbgrab", "avfoundation", "dshow", "gdigrab", "vfwcap", "decklink", "android_camera"),
    *("iec61883", "webm_dash_manifest", "tee", "svg_pipe"),
)


def test_only_formats_that_keep_to_their_file_are_opened() -> None:
    allowed = media.DEMUXERS.split(",")
    assert len(set(allowed)) == len(allowed)
    for name in allowed:
        av.format.ContainerFormat(name, "r")  # else ValueError: no such demuxer
    assert not set(allowed) & set(OPEN_OTHERS)
    assert {"mov", "matroska", "dhav", "hxvs", "gxf", "flic"} <= set(allowed)


def test_text_is_no_film(tmp_path: Any) -> None:
    """FFmpeg would paint it letter by letter."""
    path = tmp_path / "notes.txt"
    path.write_text("\x1b[31mred\x1b[0m words\n" * 200)
    with pytest.raises(VideoError, match="not a"):
        probe_video(path)


# ---- still pictures ------------------------------------------------------------------------------


def encoded(picture: Picture, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_of_a_folder_are_fitted_into_the_first_one(tmp_path: Path) -> None:
    for number, size in enumerate([(96, 48), (48, 96), (192, 96)]):
        (tmp_path / f"{number}.png").write_bytes(encoded(numbered_picture(number, *size), "PNG"))
    pictures = [np.asarray(Image.open(tmp_path / f"{number}.png")) for number in range(3)]
    for source in (tmp_path, pictures):
        video = read_video(source, frames_fps=1)
        assert video.frames.shape == (3, 48, 96, 3)
        assert [strip_number(video.frames[number]) for number in (0, 2)] == [0, 2]
        turned = video.frames[1]
        assert not turned[:, :36].max()
        assert not turned[:, 60:].max()
        assert strip_number(turned[:, 36:60]) == 1
        assert video.warnings == (
            "the picture changes to 48x96: fitted into 96x48 with black borders",
        )
        assert probe_video(source, frames_fps=1).warnings == video.warnings


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_a_broken_picture_is_left_out_by_name(broken: int, tmp_path: Path) -> None:
    data = [encoded(numbered_picture(number), "PNG") for number in range(4)]
    data[broken] = data[broken][: len(data[broken]) // 2]
    for number, content in enumerate(data):
        (tmp_path / f"{number}.png").write_bytes(content)
    whole = [number for number in range(4) if number != broken]
    for source in (tmp_path, sorted(tmp_path.iterdir()), data):
        video = read_video(source, frames_fps=2)
        assert [strip_number(frame) for frame in video.frames] == whole
        assert video.timestamps.tolist() == [number / 2 for number in whole]
        assert video.frame_indices.tolist() == [0, 1, 2]
        named = "<images> " if source is data else ""
        name = f"{named}{broken}" if named else f"{broken}.png"
        (warning,) = video.warnings
        assert warning.startswith("left out: ")
        assert f"{name}: not a readable picture" in warning
        info = probe_video(source, frames_fps=2)
        assert (info.num_frames, info.duration, info.warnings) == (3, 2.0, video.warnings)
        few = read_video(source, num_frames=2, frames_fps=2)
        assert [strip_number(frame) for frame in few.frames] == [whole[0], whole[-1]]


def test_many_broken_pictures_are_counted_and_nothing_else_is_an_error(tmp_path: Path) -> None:
    good, bad = encoded(numbered_picture(7), "PNG"), b"no picture"
    lines = read_video([bad] * 9 + [good], frames_fps=1).warnings
    assert len(lines) == 4
    assert lines[-1] == "6 more pictures left out that cannot be read"
    with pytest.raises(VideoError, match="<images> 0: not a readable picture"):
        read_video([bad, bad])
    with pytest.raises(VideoError, match=r"gone\.png: cannot be opened \(No such file"):
        read_video([encoded(numbered_picture(1)), tmp_path / "gone.png"])


def motion_photo(clip: bytes) -> bytes:
    """As phones write it: a picture, its clip, and a trailer of the maker's."""
    return encoded(numbered_picture(9), quality=95) + clip + b"\0\0\x0a\x0bSEFT" * 3


@pytest.mark.parametrize("kind", ["h264.mp4", "h264_fragmented.mp4"])
def test_a_motion_photo_is_its_picture_and_its_clip_on_request(kind: str, tmp_path: Path) -> None:
    clip = encode_clip(kind)
    path = tmp_path / "photo.jpg"
    path.write_bytes(motion_photo(clip))
    for source in (path, path.read_bytes()):
        photo = read_video(source)
        assert [strip_number(frame) for frame in photo.frames] == [9]
        (hint,) = photo.warnings
        assert "--clip" in hint
        assert probe_video(source).warnings == (hint,)
        inside = read_video(source, clip=True)
        assert np.array_equal(inside.frames, read_video(clip).frames)
        assert inside.warnings == ()
        assert probe_video(source, clip=True).num_frames == 24
    (tmp_path / "plain.jpg").write_bytes(encoded(numbered_picture(9)))
    for source in (tmp_path / "plain.jpg", clip, [numbered_picture(1)]):
        with pytest.raises(VideoError, match="holds no clip beside a picture"):
            read_video(source, clip=True)


def test_what_cameras_put_behind_a_picture_is_not_a_film() -> None:
    photo = encoded(numbered_picture(1), quality=95)
    previews = encoded(numbered_picture(2, 32, 24)) + encoded(numbered_picture(3, 16, 12))
    assert [strip_number(f) for f in read_video(photo + previews).frames] == [1]
    images = [Image.fromarray(numbered_picture(number)) for number in range(3)]
    buffer = io.BytesIO()  # two more of one size, listed at the first
    images[0].save(buffer, "MPO", save_all=True, append_images=images[1:], quality=95)
    assert [strip_number(frame) for frame in read_video(buffer.getvalue()).frames] == [0]


def test_what_an_animation_shows_where_it_does_not_move_is_no_frame() -> None:
    images = [Image.fromarray(numbered_picture(number)) for number in range(4)]
    buffer = io.BytesIO()
    rest = {"append_images": images[1:], "duration": [100, 200, 300]}
    images[0].save(buffer, "PNG", save_all=True, default_image=True, **rest)
    video = read_video(buffer.getvalue())
    assert [strip_number(frame) for frame in video.frames] == [1, 2, 3]
    assert video.timestamps == pytest.approx([0, 0.1, 0.3])
    assert video.info.duration == pytest.approx(0.6)


@pytest.mark.parametrize("suffix", ["jp2", "ppm", "pgm", "tga"])
def test_pictures_of_rarer_kinds_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "frames" / f"a.{suffix}"
    path.parent.mkdir()
    picture = Image.fromarray(numbered_picture(5))
    (picture.convert("L") if suffix == "pgm" else picture).save(path)
    for source in (path, path.parent, [path]):
        assert strip_number(read_video(source).frames[0]) == 5
    if suffix != "tga":  # which nothing tells but its name
        assert strip_number(read_video(path.read_bytes()).frames[0]) == 5


def test_jpeg_xl_is_read_where_pillow_was_taught_to(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\xff\x0a" + b"\0" * 30
    with pytest.raises(VideoError, match="not a readable picture"):
        read_video(data)
    picture = Image.fromarray(numbered_picture(5))
    monkeypatch.setitem(
        Image.OPEN, "JXL", (lambda *_: picture, lambda prefix: prefix.startswith(b"\xff\x0a"))
    )
    assert strip_number(read_video(data).frames[0]) == 5


@needs_cases
@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("mpo3.jpg", 1, []),
        ("motion_photo.jpg", 1, ["--clip"]),
        ("def_image.png", 7, []),
        ("still.jp2", 1, []),
        ("still.ppm", 1, []),
        ("broken_folder", 3, ["positions", "2.jpg"]),
    ],
)
def test_stills_of_the_cases(name: str, count: int, said: list[str]) -> None:
    info, frames = case(f"stills/{name}")
    assert info.num_frames == len(frames) == count
    assert len(info.warnings) == len(said)
    assert all(part in line for part, line in zip(said, info.warnings, strict=True))
