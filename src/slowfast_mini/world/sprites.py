"""Silhouettes: signed distance tables of the shapes and masks of the glyphs, sampled anywhere.

Tables cover [-EXTENT, EXTENT] in both directions, where the shape itself fits in [-1, 1].
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

EXTENT = 1.35
_RESOLUTION = 112
_GLYPH_PIXELS = 72

Floats = npt.NDArray[np.float64]


def _outline(shape: str) -> Floats:
    """Corner points (K, 2) of a polygonal shape, y downwards."""
    if shape == "square":
        return np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])
    if shape == "triangle":
        return np.array([[0.0, -0.95], [1.0, 0.8], [-1.0, 0.8]])
    if shape == "star":
        angles = -np.pi / 2 + np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 1.05, 0.44)
        return np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)
    if shape == "cross":
        a, b = 0.34, 0.97
        corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
        return np.array(corners + [(-x, -y) for x, y in corners])
    t = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)  # heart
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16.5, -(y + 2.5) / 15.0], axis=1)


def _polygon_distance(points: Floats, corners: Floats) -> Floats:
    """Signed distance (M,) of points (M, 2) to a polygon, negative inside."""
    a, b = corners, np.roll(corners, -1, axis=0)
    edge = b - a
    rel = points[:, None] - a
    share = np.clip((rel * edge).sum(-1) / (edge**2).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(rel - share[..., None] * edge, axis=-1).min(axis=1)
    above = (a[:, 1] > points[:, None, 1]) != (b[:, 1] > points[:, None, 1])
    height = np.where(edge[:, 1] == 0.0, 1.0, edge[:, 1])
    crossing = a[:, 0] + rel[..., 1] / height * edge[:, 0]
    inside = (above & (points[:, None, 0] < crossing)).sum(axis=1) % 2 == 1
    return np.where(inside, -distance, distance)


@cache
def shape_table(shape: str) -> torch.Tensor:
    """Signed distance in units of the half size, float32 (1, 1, R, R)."""
    axis = np.linspace(-EXTENT, EXTENT, _RESOLUTION)
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    if shape == "circle":
        distance = radius - 0.92
    elif shape == "ring":
        distance = np.abs(radius - 0.72) - 0.24
    elif shape == "moon":
        bite = np.hypot(x - 0.52, y) - 0.78
        distance = np.maximum(np.hypot(x + 0.1, y) - 0.98, -bite)
    else:
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        distance = _polygon_distance(points, _outline(shape)).reshape(x.shape)
    return torch.from_numpy(distance.astype(np.float32))[None, None]


@cache
def glyph_masks(glyph: str, backing: str) -> torch.Tensor:
    """Ink and backing coverage in [0, 1] of a glyph, float32 (1, 2, R, R).

    ``backing`` is "plate" (a full square) or "halo" (the ink grown by a stroke). The glyph box
    fills the table, so here [-1, 1] is the whole table (no EXTENT).
    """
    font = ImageFont.load_default(size=_GLYPH_PIXELS * 0.98)
    ink = Image.new("L", (_GLYPH_PIXELS, _GLYPH_PIXELS), 0)
    under = Image.new("L", ink.size, 255 if backing == "plate" else 0)
    middle = (_GLYPH_PIXELS / 2, _GLYPH_PIXELS * 0.5)
    left, top, right, bottom = font.getbbox(glyph, anchor="mm")
    at = (middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2)
    ImageDraw.Draw(ink).text(at, glyph, 255, font, "mm", stroke_width=2)
    if backing == "halo":
        ImageDraw.Draw(under).text(at, glyph, 255, font, "mm", stroke_width=8)
    both = np.stack([np.asarray(ink), np.asarray(under)]).astype(np.float32) / 255.0
    return torch.from_numpy(both)[None]


def sample_table(table: torch.Tensor, x: Floats, y: Floats, extent: float) -> torch.Tensor:
    """Bilinear look-up (C, ...) of a table (1, C, R, R) at coordinates x and y, broadcast."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    at = (
        np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(1, 1, -1, 2).astype(np.float32)
        / extent
    )
    found = torch.nn.functional.grid_sample(
        table, torch.from_numpy(at), padding_mode="border", align_corners=True
    )
    return found.reshape(table.shape[1], *shape)
