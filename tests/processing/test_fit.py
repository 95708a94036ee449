"""What becomes of pictures that are wider or higher than the model's: crop, pad or squash."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processor_parts import EDGE, MEAN, STD, tiny_processor

from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor


def wide_frames() -> np.ndarray:
    """Two frames (18 x 32), black but for a white left edge."""
    frames = np.zeros((2, 18, 32, 3), np.uint8)
    frames[:, :, :4] = 255
    return frames


def levels(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)) * 255


def assert_fitted(pixels: torch.Tensor, fit: str) -> None:
    """(..., 3, EDGE, EDGE) of one of `wide_frames`."""
    assert pixels.shape[-3:] == (3, EDGE, EDGE)
    seen = levels(pixels)[..., 0, EDGE // 2, :]
    assert (seen[..., -1] < 5).all()
    assert (seen[..., 0] > 250).all() == (fit != "crop")
    top = pixels[..., 0, :]
    if fit == "pad":  # grey that is nothing to the model, over seven rows on each side
        assert pixels[..., :7, :].abs().max() < 0.01
        assert pixels[..., -7:, :].abs().max() < 0.01
        assert pixels[..., 7, :].abs().min() > 0.1
    else:
        assert top.abs().min() > 0.1


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_videos_and_images_are_fitted_alike(fit: str, processor: SlowFastProcessor) -> None:
    frames = wide_frames()
    both = {"text": "<video><image>", "videos": frames, "images": Image.fromarray(frames[0])}
    inputs = processor(**both, num_frames=2, fit=fit, return_tensors="pt")
    assert_fitted(inputs["pixel_values_videos"][0], fit)
    assert_fitted(inputs["pixel_values"][0], fit)
    lasting = tiny_processor()
    lasting.video_processor.fit = fit
    again = lasting(**both, num_frames=2, return_tensors="pt")
    for name in ("pixel_values_videos", "pixel_values"):
        assert torch.equal(again[name], inputs[name])


def test_crop_is_what_was_published(processor: SlowFastProcessor) -> None:
    frames = wide_frames()
    plain = processor(text="<video>", videos=frames, num_frames=2)
    cropped = processor(text="<video>", videos=frames, num_frames=2, fit="crop")
    assert torch.equal(plain["pixel_values_videos"][0], cropped["pixel_values_videos"][0])


def test_a_processor_keeps_how_it_fits(tmp_path: Path) -> None:
    processor = tiny_processor()
    assert processor.video_processor.fit == "crop"
    processor.video_processor.fit = "pad"
    processor.save_pretrained(tmp_path)
    assert SlowFastProcessor.from_pretrained(tmp_path).video_processor.fit == "pad"
    assert SlowFastProcessor.from_pretrained(tmp_path, fit="crop").video_processor.fit == "crop"


def test_an_unknown_fit_is_refused(processor: SlowFastProcessor) -> None:
    with pytest.raises(ValueError, match=r"'fit' with value 'zoom'.*crop"):
        processor(text="<video>", videos=wide_frames(), fit="zoom")
    other = tiny_processor()
    other.video_processor.fit = "zoom"  # as a file may have it
    with pytest.raises(ValueError, match="choose one of crop, pad, squash"):
        other(text="<video>", videos=wide_frames())


def test_one_number_stands_for_all_channels(processor: SlowFastProcessor) -> None:
    statistics = {"image_mean": 0.5, "image_std": 0.5}
    pixels = processor(text="<video>", videos=wide_frames(), fit="pad", **statistics)
    assert pixels["pixel_values_videos"][..., :7, :].abs().max() < 0.01


def test_fitting_is_part_of_resizing() -> None:
    frames = wide_frames()
    processor = SlowFastVideoProcessor(size={"shortest_edge": 8}, crop_size=8, num_frames=2)
    whole = processor(frames, fit="pad", do_center_crop=False)["pixel_values_videos"]
    assert whole.shape[-2:] == (8, 14)


@pytest.mark.parametrize(
    ("height", "width", "said"),
    [(18, 32, "44% of the picture, left and right"), (32, 18, "above and below"), (24, 32, None)],
)
def test_a_crop_that_loses_much_is_told(height: int, width: int, said: str | None) -> None:
    processor = SlowFastVideoProcessor()
    warnings = processor.crop_warnings(height, width)
    assert [said in line and "--fit pad" in line for line in warnings] == [True] * bool(said)
    assert processor.crop_warnings(height, width, fit="pad") == []


def test_a_processor_tells_once_of_a_crop_that_loses_much(
    processor: SlowFastProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    frames = np.zeros((2, 9, 99, 3), np.uint8)
    for fit in ("pad", "crop", "crop"):
        processor.video_processor(frames, fit=fit)
    told = [line for line in caplog.messages if "outside the centre crop" in line]
    assert len(told) == 1
