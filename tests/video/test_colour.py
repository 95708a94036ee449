"""Colours: HDR brought to SDR, what is told and assumed of them, profiles and depths of stills."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
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
    return tagged(frame.reformat(format=pixels), BT2020, transfer, BT2020, color_range)


def tagged(frame: Any, primaries: int, transfer: int, matrix: int, color_range: int) -> Any:
    frame.color_primaries, frame.color_trc = primaries, transfer
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def clip(frames: list[av.VideoFrame], encoder: str, kind: str = "mp4", **options: str) -> bytes:
    """A clip of the frames as they are, with their tags."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(encoder, rate=10, options=options)
        first, context = frames[0], stream.codec_context
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        context.colorspace, context.color_range = first.colorspace, first.color_range
        for number, frame in enumerate(frames):
            frame.pts = number
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
    ],
)
def test_hdr_is_shown_as_a_browser_shows_it(
    transfer: int, color_range: int, encoder: str, pixels: str, options: dict[str, str]
) -> None:
    data = clip([hdr_frame(transfer, color_range, pixels)], encoder, **options)
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

    data = clip([hdr_frame(PQ, LIMITED)], "libx265", **X265)
    small = read_video(data, transform=Transform(lambda height, width: (16, 160), shrink))
    assert heights == [22]
    assert np.abs(small.frames[0, 8, 8::16].astype(int) - SHOWN).max() <= 16


def test_what_is_told_and_what_is_assumed() -> None:
    hdr = probe_video(clip([hdr_frame(HLG, LIMITED)], "libx265", **X265))
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


def grey_movie() -> bytes:
    """8-bit grey QuickTime animation, which is coded with a palette."""
    pictures = [numbered_picture(number)[..., 0] for number in range(12)]
    frames = [av.VideoFrame.from_ndarray(picture, format="gray") for picture in pictures]
    return clip(frames, "qtrle", "mov", g="4")


@pytest.mark.parametrize("source", ["written", "qtrle_gray.mov"])
def test_palettes_are_kept_where_few_frames_are_asked_for(source: str) -> None:
    data = grey_movie() if source == "written" else None
    path: Path = CASES / source
    if data is None and not path.is_file():
        pytest.skip("needs the shared cases")
    clip_ = data or path
    every = decode_all(io.BytesIO(data) if data else path)
    few = read_video(clip_, num_frames=3)
    for position, picture in zip(few.frame_indices, few.frames, strict=True):
        assert np.array_equal(picture, every[position])
