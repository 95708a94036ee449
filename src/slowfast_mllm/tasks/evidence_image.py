"""A picture of what an answer read of a video: over time, and within the frames."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slowfast_mllm.engine import Answer, Evidence

EDGE = 192  # pixels of a picture that a heat map is laid over
_COLUMNS, _MOST = 8, 32  # of the contact sheet
_GAP, _LINE, _CHART = 8, 22, 150
_WIDTH = 5 * EDGE + 6 * _GAP
_DARK, _GREY, _HOT, _PALE = (30, 30, 30), (150, 150, 150), (214, 60, 20), (253, 226, 208)


def draw_evidence(answer: Answer, pictures: NDArray[np.uint8], path: str | Path) -> None:
    """Write a PNG: weights over time, a contact sheet, and heat maps of the top frames.

    Args:
        answer: of a question that was asked with `evidence=True`.
        pictures: (T, EDGE, columns, 3), what `SlowFast.pictures` gives for the frames looked at.

    Raises:
        ValueError: the answer holds no evidence, or there are not as many pictures as frames.
        OSError: the file cannot be written.
    """
    evidence = answer.evidence
    if evidence is None:
        raise ValueError("The answer holds no evidence; ask with evidence=True.")
    if len(pictures) != len(evidence.weights):
        raise ValueError(
            f"{len(pictures)} pictures for {len(evidence.weights)} frames; give those that were "
            "looked at."
        )
    parts = [
        _timeline(evidence, answer.timestamps, answer.info.duration),
        _contact_sheet(evidence, answer.timestamps, pictures),
        _heat_maps(evidence, pictures),
    ]
    whole = Image.new("RGB", (_WIDTH, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    written = BytesIO()
    whole.save(written, "PNG")
    Path(path).write_bytes(written.getvalue())


def _timeline(evidence: Evidence, times: list[float], duration: float) -> Image.Image:
    """Bars from each frame to the next; spans that stand out are shaded."""
    image = Image.new("RGB", (_WIDTH, _CHART + 2 * _LINE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    ends = [*times[1:], max(duration, times[-1] + 1e-3)]
    scale = (_WIDTH - 2 * _GAP) / (ends[-1] - times[0])
    tallest = max(evidence.weights) or 1.0

    def x(time: float) -> float:
        return _GAP + (time - times[0]) * scale

    def y(weight: float) -> float:
        return _LINE + _CHART * (1 - weight / tallest)

    for span in evidence.spans:
        draw.rectangle((x(span.start), _LINE, x(span.end), _LINE + _CHART), fill=_PALE)
    for time, end, weight in zip(times, ends, evidence.weights, strict=True):
        right = max(x(time), x(end) - 1)
        draw.rectangle((x(time), y(weight), right, _LINE + _CHART), fill=_HOT)
    level = y(evidence.background)
    draw.line((_GAP, level, _WIDTH - _GAP, level), fill=_GREY)
    said = f"weight of each frame; highest {tallest:.1%}, median {evidence.background:.1%}"
    draw.text((_GAP, 2), said, _DARK, font)
    bottom = _LINE + _CHART + 3
    draw.text((_GAP, bottom), f"{times[0]:.2f} s", _DARK, font)
    draw.text((_WIDTH - _GAP, bottom), f"{ends[-1]:.2f} s", _DARK, font, anchor="ra")
    return image


def _contact_sheet(
    evidence: Evidence, times: list[float], pictures: NDArray[np.uint8]
) -> Image.Image:
    """Frames, evenly chosen where there are many, with a border as red as they were read."""
    count = min(len(pictures), _MOST)
    shown = np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist()
    cell = (_WIDTH - _GAP * (_COLUMNS + 1)) // _COLUMNS
    height = round(cell * pictures.shape[1] / pictures.shape[2])
    rows = -(-count // _COLUMNS)
    step = height + _LINE + _GAP
    image = Image.new("RGB", (_WIDTH, rows * step + _GAP), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    tallest = max(evidence.weights) or 1.0
    for place, at in enumerate(shown):
        left = _GAP + place % _COLUMNS * (cell + _GAP)
        top = _GAP + place // _COLUMNS * step
        share = evidence.weights[at] / tallest
        border = tuple(round(255 + (hot - 255) * share) for hot in _HOT)
        draw.rectangle((left - 4, top - 4, left + cell + 3, top + height + 3), fill=border)
        image.paste(Image.fromarray(pictures[at]).resize((cell, height)), (left, top))
        draw.text((left, top + height + 4), f"{times[at]:.2f} s", _DARK, font)
    return image


def _heat_maps(evidence: Evidence, pictures: NDArray[np.uint8]) -> Image.Image:
    """The top frames, on one scale: grey where nothing was read, red where much was."""
    width = round(EDGE * pictures.shape[2] / pictures.shape[1])
    image = Image.new("RGB", (_WIDTH, EDGE + _LINE + 2 * _GAP), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    maps = [np.array(frame.cells, np.float32) * frame.weight for frame in evidence.top]
    hottest = max(max(float(cells.max()) for cells in maps), 1e-9)
    for place, (frame, cells) in enumerate(zip(evidence.top, maps, strict=True)):
        left = _GAP + place * (width + _GAP)
        heated = _heated(pictures[frame.position], cells / hottest).resize((width, EDGE))
        image.paste(heated, (left, _GAP))
        said = f"{frame.timestamp:.2f} s   {frame.weight:.1%}"
        draw.text((left, EDGE + _GAP + 3), said, _DARK, font)
    return image


def _heated(picture: NDArray[np.uint8], cells: NDArray[np.float32]) -> Image.Image:
    """A frame under its cells, of 0 to 1, between which the heat runs evenly."""
    size = picture.shape[1], picture.shape[0]
    heat = Image.fromarray(cells).resize(size, Image.Resampling.BILINEAR)
    share = np.asarray(heat)[..., None].clip(0, 1)
    grey = picture.mean(-1, keepdims=True) * 0.6 + 80
    seen = picture * share + grey * (1 - share)
    seen = seen * (1 - 0.35 * share) + np.array(_HOT) * 0.35 * share
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))
