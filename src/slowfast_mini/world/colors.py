"""The colour names of the world and random tones that everybody calls by them."""

from __future__ import annotations

import colorsys

import numpy as np

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")

# Hue centre and half width in degrees, then the saturation and value ranges. The gaps between
# the hue ranges keep every name unambiguous after the tone changes of the renderer.
_HSV: dict[str, tuple[float, float, tuple[float, float], tuple[float, float]]] = {
    "red": (358.0, 6.0, (0.82, 1.0), (0.72, 0.98)),
    "orange": (29.0, 4.0, (0.9, 1.0), (0.92, 1.0)),
    "yellow": (55.0, 4.0, (0.8, 1.0), (0.9, 1.0)),
    "green": (122.0, 20.0, (0.7, 1.0), (0.45, 0.85)),
    "blue": (222.0, 13.0, (0.75, 1.0), (0.65, 1.0)),
    "purple": (284.0, 9.0, (0.6, 0.9), (0.5, 0.85)),
    "white": (0.0, 180.0, (0.0, 0.04), (0.95, 1.0)),
    "black": (0.0, 180.0, (0.0, 0.4), (0.0, 0.09)),
}

RGB = tuple[float, float, float]


def color_rgb(name: str, rng: np.random.Generator) -> RGB:
    """A random tone, RGB in [0, 1], that everybody calls ``name``."""
    hue, spread, saturation, value = _HSV[name]
    degrees = hue + rng.uniform(-spread, spread)
    return colorsys.hsv_to_rgb(
        (degrees % 360.0) / 360.0, rng.uniform(*saturation), rng.uniform(*value)
    )
