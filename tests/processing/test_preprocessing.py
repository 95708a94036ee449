"""Pixels: parity with the published preprocessing, and every odd size and array there is."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processor_parts import (
    EDGE,
    MEAN,
    STD,
    frame_numbers,
    numbered_frames,
    tiny_processor,
)
from safetensors.torch import load_file

from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor, fetch
from slowfast_mllm.processing.pixels import centre_crop, output_shape, resize_and_crop
from slowfast_mllm.video import VideoError, read_video

GOLDEN = Path(__file__).parent / "golden"
CASES = ("noise_square", "tall_upscaled", "wide")


def grey_levels(pixels: torch.Tensor) -> torch.Tensor:
    """Normalised pixels (..., 3, H, W) as levels from 0 to 255."""
    return (pixels * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)) * 255


def assert_same_levels(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """At most two grey levels off anywhere, 0.02 on average."""
    difference = (actual.float() - expected.float()).abs()
    assert difference.max() <= 2.001
    assert difference.mean() <= 0.02


def video_processor(edge: int) -> SlowFastVideoProcessor:
    return SlowFastVideoProcessor(
        size={"shortest_edge": edge}, crop_size=edge, do_sample_frames=False
    )


@pytest.mark.parametrize("case", CASES)
def test_frames_become_the_published_pixels(case: str) -> None:
    golden = load_file(GOLDEN / "preprocess.safetensors")
    expected = golden[f"{case}.grey_levels"]
    output = video_processor(expected.shape[-1])(golden[f"{case}.frames"], return_tensors="pt")
    assert output["pixel_values_videos"].dtype == torch.float32
    assert_same_levels(grey_levels(output["pixel_values_videos"][0]), expected)


@pytest.mark.parametrize("case", CASES)
def test_the_full_golden_data_agrees_too(case: str, shared: Path) -> None:
    golden = load_file(shared / "golden" / "preprocess.safetensors")
    expected = golden[f"{case}.pixel_values"]
    actual = video_processor(expected.shape[-1])(golden[f"{case}.frames"])["pixel_values_videos"][0]
    assert_same_levels(grey_levels(actual), grey_levels(expected))
    # One grey level is about 0.015.
    assert (actual - expected).abs().max() < 0.035


@pytest.mark.parametrize("case", CASES)
def test_images_become_the_published_pixels(case: str) -> None:
    golden = load_file(GOLDEN / "preprocess.safetensors")
    expected = golden[f"{case}.grey_levels"][0]
    size = {"size": {"shortest_edge": expected.shape[-1]}, "crop_size": expected.shape[-1]}
    output = tiny_processor()(
        images=Image.fromarray(golden[f"{case}.frames"][0].numpy()), images_kwargs=size
    )
    assert_same_levels(grey_levels(torch.as_tensor(output["pixel_values"][0])), expected)


def test_sampled_indices_are_the_published_ones(processor: SlowFastProcessor) -> None:
    tables = json.loads((GOLDEN / "sampling.json").read_text())
    for table in tables.values():
        for key, expected in table.items():
            available, wanted = map(int, key.split(","))
            frames = np.zeros((available, 4, 4, 3), np.uint8)
            output = processor.video_processor(
                frames, num_frames=wanted, return_metadata=True, size={"height": 1, "width": 1}
            )
            assert output["video_metadata"][0].frames_indices == expected


def test_a_short_clip_gives_all_its_frames_and_repeats_the_last(
    processor: SlowFastProcessor,
) -> None:
    output = processor.video_processor(numbered_frames(3), num_frames=5, return_metadata=True)
    assert output["video_metadata"][0].frames_indices == [0, 1, 2, 2, 2]
    pixels = output["pixel_values_videos"][0]
    assert torch.equal(pixels[2], pixels[4])
    assert not torch.equal(pixels[1], pixels[2])


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (17, 31), (31, 17), (2000, 16), (16, 2000), (1, 900), (900, 1)]
)
def test_odd_sizes_have_the_pixels_of_pillow(height: int, width: int) -> None:
    rng = np.random.default_rng(height + width)
    small = rng.integers(0, 256, (-(-height // 3), -(-width // 3), 3), dtype=np.uint8)
    frame = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
    scale = EDGE / min(height, width)
    whole = Image.fromarray(frame).resize(
        (max(EDGE, int(width * scale)), max(EDGE, int(height * scale))), Image.Resampling.BICUBIC
    )
    expected = centre_crop(torch.from_numpy(np.array(whole)).permute(2, 0, 1), EDGE, EDGE)
    processor = tiny_processor()
    video = processor(videos=frame[None], do_sample_frames=False, return_tensors="pt")
    image = processor(images=frame, return_tensors="pt")
    for pixels in (video["pixel_values_videos"][0, 0], image["pixel_values"][0]):
        difference = (grey_levels(pixels) - expected).abs()
        assert difference.max() <= 2.001
        assert difference.mean() <= 0.02


ELONGATED = """
import re
from pathlib import Path
import numpy as np
from processor_parts import tiny_config, tiny_tokenizer
from slowfast_mllm.processing import SlowFastProcessor

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

config = tiny_config()
config.vision_config.image_size = 576
processor = SlowFastProcessor.from_config(config, tiny_tokenizer())
before = peak()
for shape in ((1, 1, 16000, 3), (1, 16000, 8, 3)):
    frame = np.zeros(shape, np.uint8)
    output = processor(images=list(frame), videos=frame, do_sample_frames=False)
    assert output["pixel_values_videos"].shape == (1, 1, 3, 576, 576)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a peak")
def test_elongated_pictures_need_little_memory() -> None:
    """Resized as a whole, each of these would take more than a gigabyte."""
    # In a process of its own: a peak that earlier tests reached would hide this one.
    told = subprocess.run(
        [sys.executable, "-c", ELONGATED],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert 0 < int(told.stdout) < 300_000


def test_without_a_crop_an_elongated_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size: a picture of 16000x1 .* size="):
        video_processor(576)(np.zeros((1, 1, 16000, 3), np.uint8), do_center_crop=False)


@pytest.mark.parametrize("kind", ["grey", "grey_channel", "rgba", "first", "tensor", "named_first"])
def test_every_layout_of_an_array_shows_the_same(kind: str, processor: SlowFastProcessor) -> None:
    frames = numbered_frames(5)
    expected = processor.video_processor(frames)["pixel_values_videos"]
    variants = {
        "grey": frames[..., 0],
        "grey_channel": frames[..., :1],
        "rgba": np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=-1),
        "first": frames.transpose(0, 3, 1, 2),
        "tensor": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "named_first": frames.transpose(0, 3, 1, 2)[..., :3],
    }
    video = variants[kind]
    if kind == "named_first":  # (T, 3, H, 3) could be either
        narrow = processor.video_processor(video, input_data_format="channels_first")
        again = processor.video_processor(video.transpose(0, 2, 3, 1))
        assert torch.equal(narrow["pixel_values_videos"], again["pixel_values_videos"])
        return
    for given in (video, list(video)):
        actual = processor.video_processor(given)["pixel_values_videos"]
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    "kind", ["grey", "rgba", "first", "grey_pil", "path", "file", "bytes", "base64", "data", "url"]
)
def test_every_kind_of_image_shows_the_same(
    kind: str, processor: SlowFastProcessor, served: Callable[[Path], str], tmp_path: Path
) -> None:
    picture = numbered_frames(8)[7]
    expected = processor(images=Image.fromarray(picture))["pixel_values"]
    file = tmp_path / "picture.png"
    Image.fromarray(picture).save(file)
    image = {
        "grey": picture[..., 0],
        "rgba": np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=-1),
        "first": picture.transpose(2, 0, 1),
        "grey_pil": Image.fromarray(picture[..., 0]),
        "path": str(file),
        "file": file.as_uri(),
        "bytes": file.read_bytes(),
        "base64": base64.encodebytes(file.read_bytes()).decode(),
        "data": f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}",
        "url": f"{served(tmp_path)}/picture.png",
    }[kind]
    assert np.array_equal(processor(images=image)["pixel_values"], expected)


def test_what_a_url_gives_is_opened_with_care(
    processor: SlowFastProcessor, served: Callable[[Path], str], tmp_path: Path
) -> None:
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    address = served(tmp_path)
    for name in ("script.png", "missing.png"):
        with pytest.raises(VideoError, match=rf"{name}: no such image file, and not a URL"):
            processor(images=f"{address}/{name}")


@pytest.mark.parametrize("part", ["url", "video", "video_url", "text", "base64", "direct", "call"])
def test_a_video_by_url_or_base64_shows_the_same(
    part: str, processor: SlowFastProcessor, served: Callable[[Path], str], clip: str
) -> None:
    url = f"{served(Path(clip).parent)}/{Path(clip).name}"
    text = base64.b64encode(Path(clip).read_bytes()).decode()
    if part in ("direct", "call"):
        video = {"direct": url, "call": text}[part]
        found = processor(text="<video>", videos=video, return_tensors="pt")
    else:
        content = {
            "url": {"type": "video", "url": url},
            "video": {"type": "video", "video": url},
            "video_url": {"type": "video_url", "video_url": {"url": url}},
            "text": {"type": "video_url", "video_url": text},
            "base64": {"type": "video", "base64": text},
        }[part]
        found = processor.apply_chat_template(
            [{"role": "user", "content": [content]}], tokenize=True, return_dict=True
        )
    assert frame_numbers(torch.as_tensor(found["pixel_values_videos"])[0]) == [0, 6, 12, 19]


def test_urls_that_give_no_video_are_named(
    processor: SlowFastProcessor,
    served: Callable[[Path], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "page.mp4").write_bytes(b"<html>no such clip</html>" * 9)
    address = served(tmp_path)
    for name, reason in (("page.mp4", "video"), ("missing.mp4", r"cannot be fetched \(.*404")):
        with pytest.raises(VideoError, match=f"{address}/{name}: .*{reason}") as caught:
            processor.video_processor(f"{address}/{name}")
        assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match=r"^<base64 text>: no base64 .*encode"):
        processor.video_processor("A" * 1001)
    with pytest.raises(VideoError, match="cannot be fetched") as caught:
        processor.video_processor(f"http://127.0.0.1:9/{'a' * 999}.mp4")
    assert str(caught.value).index(": cannot be fetched") == 100
    monkeypatch.setattr(fetch, "_LIMIT", 100)
    with pytest.raises(VideoError, match="more than"):
        processor.video_processor(f"{address}/page.mp4")
    with pytest.raises(VideoError, match="no such file"):  # the reader itself fetches nothing
        read_video(f"{address}/page.mp4")


@pytest.fixture
def served() -> Iterator[Callable[[Path], str]]:
    """Serves a folder on this machine, and says where."""
    servers = []

    def serve(folder: Path) -> str:
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_floating_point_arrays_are_refused(processor: SlowFastProcessor) -> None:
    with pytest.raises(VideoError, match="uint8"):
        processor.video_processor(np.zeros((2, 8, 8, 3), np.float32))


def test_steps_can_be_left_out() -> None:
    frames = numbered_frames(2, 20, 30)
    processor = video_processor(8)
    raw = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    same = processor(frames, **raw)["pixel_values_videos"][0]
    assert torch.equal(same, torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    scaled = processor(frames, **{**raw, "do_rescale": True})["pixel_values_videos"][0]
    torch.testing.assert_close(scaled, same / 255)
    squashed = processor(frames, size={"height": 6, "width": 10}, do_center_crop=False)
    assert squashed["pixel_values_videos"].shape == (1, 2, 3, 6, 10)
    small = processor(frames, size={"shortest_edge": 4}, do_normalize=False)
    pixels = small["pixel_values_videos"][0]
    assert pixels.shape[-2:] == (8, 8)
    assert (pixels[1, :, :2] == 0).all()
    assert (pixels[1, :, 2:6, 1:7] > 0).all()


def test_output_shape_says_what_comes_out() -> None:
    size = {"shortest_edge": 12, "longest_edge": None, "height": None, "width": None}
    for height, width in ((5, 9), (9, 5), (30, 30)):
        picture = np.zeros((height, width, 3), np.uint8)
        for crop in (None, {"height": 10, "width": 11}):
            expected = output_shape(height, width, size, crop)
            assert resize_and_crop(picture, size, crop).shape == (3, *expected)
