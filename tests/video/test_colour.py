"""Colours: HDR brought to SDR, what is told and assumed of them, profiles and depths of stills."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from video_clips import SHARED, decode_all, numbered_picture

from slowfast_mllm.video import probe_video, read_video
from slowfast_mllm.video.picture import Transform
from slowfast_mllm.video.result import VideoInfo

CASES = SHARED / "cases" / "colour"
LIMITED, FULL = 1, 2
BT2020, PQ, HLG = 9, 16, 18

# (red, green, blue) as shares of the light of the grey, in BT.709, and nits of white.
PATCHES = [((1, 1, 1), nits) for nits in (10, 50, 100, 203, 400, 1000)] + [
    (patch, 203.0) for patch in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))
]
# What a browser shows of them.
SHOWN = [(grey,) * 3 for grey in (61, 123, 157, 191, 220, 255)] + [
    (208, 0, 0), (0, 194, 0), (0, 0, 195), (191, 191, 0)
]  # fmt: skip
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA = np.array([0.2627, 0.6780, 0.0593])


def pq_coded(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_coded(nits: np.ndarray) -> np.ndarray:
    luminance = nits @ LUMA / 1000
    scene = nits / 1000 * luminance[:, None] ** (1 / 1.2 - 1)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def hdr_frame(transfer: int, color_range: int, pixels: str = "yuv420p10le") -> av.VideoFrame:
    """The patches side by side, 64 pixels each."""
    nits = np.array([nits * (TO_BT2020 @ patch) for patch, nits in PATCHES])
    coded = pq_coded(nits) if transfer == PQ else hlg_coded(nits)
    luma = coded @ LUMA
    blue, red = (
        (coded[:, 2] - luma) / (2 * (1 - LUMA[2])),
        (coded[:, 0] - luma) / (2 * (1 - LUMA[0])),
    )
    scale, black, chroma = (876, 64, 896) if color_range == LIMITED else (1023, 0, 1023)
    planes = [(black + scale * luma, 64), (512 + chroma * blue, 32), (512 + chroma * red, 32)]
    frame = av.VideoFrame(64 * len(PATCHES), 64, "yuv420p10le")
    for plane, (values, side) in zip(frame.planes, planes, strict=True):
        rows = np.tile(np.repeat(np.rint(values).astype(np.uint16), side), (side, 1))
        whole = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        whole[:, : rows.shape[1]] = rows
        plane.update(whole)
    tagged(frame, BT2020, transfer, BT2020, color_range)
    matrix = 0 if pixels.startswith("gbr") else BT2020
    return tagged(frame.reformat(format=pixels), BT2020, transfer, matrix, color_range)


def tagged(frame: Any, primaries: int, transfer: int, matrix: int, color_range: int) -> Any:
    frame.color_primaries, frame.color_trc = primaries, transfer
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def clip(frames: list[av.VideoFrame], encoder: str, kind: str = "mp4", **options: str) -> bytes:
    """A clip of the frames as they are, with their tags; x265 needs more than one."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(encoder, rate=10, options=options)
        first, context = frames[0], stream.codec_context
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        context.colorspace, context.color_range = first.colorspace, first.color_range
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def patches_of(picture: np.ndarray) -> np.ndarray:
    return np.array([picture[32, 32 + 64 * i] for i in range(picture.shape[1] // 64)], int)


X265 = {"x265-params": "log-level=none", "crf": "4", "preset": "ultrafast"}
MASTERED = (
    "log-level=none:hdr10=1:max-cll=4000,400:"
    "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50)"
)


@pytest.mark.parametrize(
    ("transfer", "color_range", "encoder", "pixels", "options"),
    [
        (PQ, LIMITED, "libx265", "yuv420p10le", X265),
        (HLG, LIMITED, "libx265", "yuv420p10le", X265),
        (PQ, FULL, "libx265", "yuv420p10le", X265),
        (PQ, LIMITED, "libx265", "yuv422p12le", X265),
        (PQ, LIMITED, "libx265", "yuv420p10le", {**X265, "x265-params": MASTERED}),
        (PQ, LIMITED, "libsvtav1", "yuv420p10le", {"crf": "4", "preset": "12"}),
        (HLG, LIMITED, "libx264", "yuv420p", {"crf": "4"}),
        (PQ, FULL, "ffv1", "gbrp10le", {}),
    ],
)
def test_hdr_is_shown_as_a_browser_shows_it(
    transfer: int, color_range: int, encoder: str, pixels: str, options: dict[str, str]
) -> None:
    kind = "matroska" if encoder == "ffv1" else "mp4"
    data = clip([hdr_frame(transfer, color_range, pixels)] * 3, encoder, kind, **options)
    video = read_video(data)
    seen = patches_of(video.frames[0])
    assert np.abs(seen - SHOWN).max() <= 16
    greys = seen[:6]
    assert (np.diff(greys.mean(1)) > 0).all()
    assert np.ptp(greys, axis=1).max() <= 3
    name = "PQ" if transfer == PQ else "HLG"
    assert any(f"HDR ({name}): tone-mapped" in line for line in video.warnings)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")
@pytest.mark.parametrize("name", ["hlg.mov", "hdr10.mp4"])
def test_hdr_of_cameras(name: str) -> None:
    shown = [*SHOWN, (183, 140, 113), (70, 118, 182), (110,) * 3, (191,) * 3]
    seen = patches_of(read_video(CASES / name).frames[0])
    assert np.abs(seen - shown).max() <= 16


def test_hdr_that_is_shrunk_anyway_is_shrunk_before_its_light_is_mapped() -> None:
    heights: list[int] = []

    def shrink(picture: np.ndarray) -> np.ndarray:
        heights.append(picture.shape[0])
        rows, columns = (
            np.arange(n) * m // n for n, m in zip((16, 160), picture.shape, strict=False)
        )
        return picture[np.ix_(rows, columns)]

    data = clip([hdr_frame(PQ, LIMITED)] * 3, "libx265", **X265)
    small = read_video(data, transform=Transform(lambda height, width: (16, 160), shrink))
    assert heights == [22] * 3
    assert np.abs(small.frames[0, 8, 8::16].astype(int) - SHOWN).max() <= 16


def test_colours_that_cannot_be_undone_are_said_to_be_wrong() -> None:
    frame = tagged(hdr_frame(PQ, LIMITED), BT2020, PQ, 14, LIMITED)
    video = read_video(clip([frame] * 3, "libx265", **X265))
    assert any("hues are wrong" in line for line in video.warnings)
    assert video.info.colour_matrix == "ictcp"


def test_what_is_told_and_what_is_assumed() -> None:
    hdr = probe_video(clip([hdr_frame(HLG, LIMITED)] * 3, "libx265", **X265))
    assert (hdr.colour_primaries, hdr.colour_transfer) == ("bt2020", "arib-std-b67")
    assert (hdr.colour_matrix, hdr.colour_range) == ("bt2020nc", "limited")
    assert hdr.colour_assumed == ()
    assert VideoInfo.from_dict(hdr.to_dict()) == hdr


@pytest.mark.parametrize("matrix", [1, 2, 6])
def test_tags_are_obeyed_and_untagged_high_definition_is_as_in_the_training_data(
    matrix: int,
) -> None:
    """The reader of the published checkpoints took untagged pictures of any size as BT.601."""
    colours = np.array([(200, 40, 40), (40, 160, 60), (40, 80, 200), (235, 200, 30)], np.uint8)
    picture = np.repeat(np.tile(colours, (720, 1, 1)), 320, axis=1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    coded = frame.reformat(format="yuv420p", dst_colorspace=1 if matrix == 1 else 5)
    tagged(coded, matrix, matrix, matrix, LIMITED if matrix != 2 else 0)
    data = clip([coded], "libx264", crf="4")
    info = probe_video(data)
    assert info.colour_matrix == ("bt709" if matrix == 1 else "smpte170m")
    assert ("matrix" in info.colour_assumed) == (matrix == 2)
    assert info.warnings == ()
    seen = read_video(data).frames[0, 360, 160::320].astype(int)
    assert np.abs(seen - colours).max() <= 4


def old_movie(encoder: str, pixels: str) -> bytes:
    pictures = [numbered_picture(number) for number in range(12)]
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
    return clip([frame.reformat(format=pixels) for frame in frames], encoder, "mov", g="4")


@pytest.mark.parametrize("source", [("qtrle", "gray"), ("rpza", "rgb555le"), "qtrle_gray.mov"])
def test_old_movies_are_the_same_where_few_frames_are_asked_for(source: Any) -> None:
    """Of 8-bit ones the palette comes but once, and RPZA does not tell its key frames."""
    movie: Path | bytes = CASES / source if isinstance(source, str) else old_movie(*source)
    if isinstance(movie, Path) and not movie.is_file():
        pytest.skip("needs the shared cases")
    every = decode_all(movie if isinstance(movie, Path) else io.BytesIO(movie))
    few = read_video(movie, num_frames=4)
    for position, picture in zip(few.frame_indices, few.frames, strict=True):
        assert np.array_equal(picture, every[position])


def test_hdr_stills_are_tone_mapped() -> None:
    data = clip([hdr_frame(PQ, LIMITED)], "libsvtav1", "avif", crf="4", preset="12")
    video = read_video(data)
    assert np.abs(patches_of(video.frames[0])[:6] - SHOWN[:6]).max() <= 8
    assert any("HDR (PQ): tone-mapped" in line for line in video.warnings)
    assert any("HDR (PQ): tone-mapped" in line for line in probe_video(data).warnings)


COLOURS = [
    (224, 172, 140), (200, 40, 40), (40, 160, 60), (40, 80, 200), (235, 200, 30), (128, 128, 128)
]  # fmt: skip


def profile(name: str) -> bytes:
    """An ICC profile: Adobe RGB (1998) by the letter, or grey of gamma 1."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    gamma = {"adobe": 2.19921875, "grey": 1.0}[name]
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"a test"[:5] + b"\0" + bytes(78)
    tags = {b"desc": text + b"\0" * (-len(text) % 4), b"wtpt": xyz(0.9642, 1.0, 0.8249)}
    if name == "adobe":
        tags |= {b"rXYZ": xyz(0.60974, 0.31111, 0.01947), b"gXYZ": xyz(0.20528, 0.62567, 0.06087)}
        tags |= {b"bXYZ": xyz(0.14919, 0.06322, 0.74457)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">2I", start + len(data), len(value))
        data += value
    space = b"RGB " if name == "adobe" else b"GRAY"
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        start + len(data),
        0x02100000,
        b"mntr",
        space,
        b"XYZ ",
        b"acsp",
        63190,
        65536,
        54061,
    )
    return head + struct.pack(">I", len(tags)) + table + data


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def column_picture(colours: list[tuple[int, int, int]]) -> Image.Image:
    return Image.fromarray(np.repeat(np.array([colours], np.uint8), 16, axis=0).repeat(16, axis=1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "handed in", "in a list", "with alpha"])
def test_embedded_profiles_are_followed(kind: str) -> None:
    """The same colours in Adobe RGB, by its own arithmetic."""
    linear = np.array(COLOURS) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_adobe = [[0.71513, 0.28487, 0.0], [0.0, 1.0, 0.0], [0.0, 0.04116, 0.95884]]
    stored = np.rint(255 * (linear @ np.array(to_adobe).T) ** (1 / 2.19921875))
    image = column_picture([tuple(colour) for colour in stored.astype(int)])
    if kind == "with alpha":
        image.putalpha(128)
    image.info["icc_profile"] = profile("adobe")
    options = {"icc_profile": profile("adobe"), **({"lossless": True} if kind == "WEBP" else {})}
    source: Any = image
    if kind == "in a list":
        source = [image]
    elif kind != "handed in":
        source = saved(image, "PNG" if kind == "with alpha" else kind, **options)
    seen = read_video(source).frames[0, 8, 8::16].astype(int)
    assert np.abs(stored - COLOURS).max() > 15  # there is something to be seen
    assert np.abs(seen - COLOURS).max() <= 4


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")
@pytest.mark.parametrize("name", ["p3.png", "p3.jpg"])
def test_display_p3(name: str) -> None:
    seen = read_video(CASES / name).frames[0, 32, 32::64].astype(int)
    assert np.abs(seen - [*COLOURS, (90, 150, 230), (255, 0, 0)]).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("name", ["grey", "adobe", "broken", "cut"])
def test_profiles_that_are_broken_or_for_other_pictures_change_nothing(
    mode: str, name: str
) -> None:
    broken = {"broken": b"no profile", "cut": profile("adobe")[:300]}
    image = column_picture(COLOURS).convert(mode)
    plain = read_video(image).frames[0]
    image.info["icc_profile"] = broken.get(name) or profile(name)
    fits = {"grey": ("L", "LA"), "adobe": ("RGB", "P", "1")}.get(name, ())
    seen = read_video(image).frames[0]
    if mode in fits:
        assert seen.shape == plain.shape
    else:
        assert np.array_equal(seen, plain)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), np.arange(256)),
        (np.arange(256, dtype=np.float32), np.arange(256)),
        (np.linspace(-3, 7, 256, dtype=np.float32), np.arange(256)),
        (np.arange(256, dtype=np.int32), np.arange(256)),
        (np.arange(256, dtype=np.int32) * 1000 - 5000, np.arange(256)),
        (np.arange(256, dtype=np.uint16) * 257, np.arange(256)),
        (np.full(256, np.nan, np.float32), np.zeros(256)),
        (np.r_[np.linspace(0, 1, 255), np.inf].astype(np.float32), np.r_[np.arange(255), 0]),
    ],
)
def test_depths_of_tiff_are_scaled_by_their_range(values: np.ndarray, expected: np.ndarray) -> None:
    data = saved(Image.fromarray(np.tile(values, (4, 1))), "TIFF")
    seen = read_video(data).frames[0, 2].astype(int)
    assert np.abs(seen - np.asarray(expected)[:, None]).max() <= 1


@pytest.mark.parametrize("entry", [(339, 3, 1, 1, 0), (65001, 3, 1, 1, 0)])
def test_whole_numbers_without_a_sign(entry: tuple[int, ...]) -> None:
    """32 bits without a sign, of which Pillow makes negative numbers."""
    values = np.linspace(0, 2**32 - 1, 256).astype(np.uint32)
    image = Image.fromarray(np.tile(values.view(np.int32), (4, 1)))
    signed = struct.pack("<2HI2H", 339, 3, 1, 2, 0)
    data = saved(image, "TIFF")
    assert signed in data
    data = data.replace(signed, struct.pack("<2HI2H", *entry))  # told, or left out
    assert np.abs(read_video(data).frames[0, 2, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits(channels: int) -> None:
    values = np.repeat(np.arange(256) * 257, channels).astype(">u2")
    rows = zlib.compress(4 * (b"\0" + values.tobytes()))
    head = struct.pack(">2I5B", 256, 4, 16, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    seen = read_video(data).frames[0, 2]
    assert np.array_equal(seen, np.arange(256)[:, None].repeat(3, axis=1))
