"""Random textured planes behind the objects: noise, stripes, boards, cells and simple scenes.

A background is a function of the world position and a seed only, so it looks the same at every
resolution. Its colours are kept duller than those of the objects.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

Array = npt.NDArray[np.float32]
Window = tuple[float, float, float, float]

_LOW, _HIGH = -0.6, 1.6  # the part of the world that any camera can see


def dull_color(rng: np.random.Generator) -> Array:
    """RGB (3,) in [0, 1], mostly of low saturation, neither pure black nor pure white."""
    value = float(rng.uniform(0.24, 0.82))
    ceiling = 0.42 if rng.random() < 0.25 else 0.26
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, ceiling), value), np.float32)


def texture(seed: int, window: Window, size: int) -> torch.Tensor:
    """The plane over ``window`` (x0, y0, x1, y1) as float32 (1, 3, H, W) in [0, 1].

    ``size`` is the number of samples per frame side.
    """
    rng = np.random.default_rng([seed, 7])
    x0, y0, x1, y1 = window
    x = np.linspace(x0, x1, max(2, round((x1 - x0) * size)), dtype=np.float32)[None, :]
    y = np.linspace(y0, y1, max(2, round((y1 - y0) * size)), dtype=np.float32)[:, None]
    colors = [dull_color(rng) for _ in range(3)]
    kind = str(rng.choice(list(_MASKS)))
    first = _MASKS[kind](rng, x, y)
    plane = _mix(colors[0], colors[1], first)
    if rng.random() < 0.45:
        second = _MASKS[str(rng.choice(list(_MASKS)))](rng, x, y)
        share = second * np.float32(rng.uniform(0.3, 0.9))
        plane += share[None] * (colors[2][:, None, None] - plane)
    # Fine grain everywhere: without it a pan over a flat part could not be seen.
    grain = _noise(rng, x, y, (6, 14, 36)) - np.float32(0.5)
    plane += grain[None] * np.float32(rng.uniform(0.12, 0.4))
    _distract(rng, plane, x, y)
    np.clip(plane, 0.12, 0.88, out=plane)
    return torch.from_numpy(plane)[None]


def photo(path: str, seed: int, window: Window, size: int) -> torch.Tensor:
    """Like ``texture``, from a random part of a picture file, duller than it was."""
    rng = np.random.default_rng([seed, 8])
    picture = _picture(path)
    share = float(rng.uniform(0.5, 1.0)) * min(picture.size)
    left, top = (float(rng.uniform(0, side - share)) for side in picture.size)
    # The visible part of the world is a square of the picture.
    x0, y0, x1, y1 = ((edge - _LOW) / (_HIGH - _LOW) * share for edge in window)
    shape = tuple(max(2, round((window[i + 2] - window[i]) * size)) for i in range(2))
    part = picture.resize(
        (shape[0], shape[1]),
        Image.Resampling.BILINEAR,
        (left + max(x0, 0), top + max(y0, 0), left + min(x1, share), top + min(y1, share)),
    )
    plane = np.asarray(part, np.float32).transpose(2, 0, 1) / 255
    if rng.random() < 0.5:
        plane = plane[..., ::-1]
    grey = plane.mean(0, keepdims=True)
    return torch.from_numpy(np.clip(grey + 0.6 * (plane - grey), 0.12, 0.88))[None]


@lru_cache(maxsize=256)
def _picture(path: str) -> Image.Image:
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((640, 640))
    return picture


def _mix(a: Array, b: Array, mask: Array) -> Array:
    mixed: Array = a[:, None, None] + mask[None] * (b - a)[:, None, None]
    return mixed


def _lattice(values: Array, x: Array, y: Array) -> Array:
    """Smooth interpolation of a lattice (K, K) spanning the visible world, at the grid x, y."""
    cells = values.shape[0] - 1

    def weights(at: Array) -> Array:
        position = np.clip((at.ravel() - _LOW) / (_HIGH - _LOW), 0.0, 1.0) * np.float32(cells)
        low = np.minimum(position.astype(np.int64), cells - 1)
        rows = np.arange(len(position))
        matrix = np.zeros((len(position), cells + 1), np.float32)
        linear = position - low.astype(np.float32)
        part = linear * linear * (3 - 2 * linear)
        matrix[rows, low] = 1 - part
        matrix[rows, low + 1] = part
        return matrix

    return np.asarray(weights(y) @ values @ weights(x).T, dtype=np.float32)


def _noise(
    rng: np.random.Generator, x: Array, y: Array, octaves: tuple[int, ...] = (5, 10, 22)
) -> Array:
    """Value noise (H, W) around 0.5, roughly in [0, 1]."""
    total = np.full((y.size, x.size), 0.5, np.float32)
    amplitude = 0.55
    for cells in octaves:
        values = rng.random((cells + 1, cells + 1), dtype=np.float32) - np.float32(0.5)
        total += np.float32(amplitude) * _lattice(values, x, y)
        amplitude *= 0.65
    return total


def _gradient(rng: np.random.Generator, x: Array, y: Array) -> Array:
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * (x - 0.5) + np.float32(np.sin(angle)) * (y - 0.5)
    return np.clip(0.5 + slope, 0.0, 1.0)


def _stripes(rng: np.random.Generator, x: Array, y: Array) -> Array:
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.08, 0.4)
    wave = np.float32(2 * np.pi / period * np.cos(angle)) * x
    wave = wave + np.float32(2 * np.pi / period * np.sin(angle)) * y
    hard = np.float32(rng.uniform(0.6, 6.0))
    return np.clip(0.5 + hard * np.sin(wave + np.float32(rng.uniform(0, 6))), 0.0, 1.0)


def _board(rng: np.random.Generator, x: Array, y: Array) -> Array:
    cell = rng.uniform(0.08, 0.35)
    shift = rng.uniform(0, 1, size=2)
    odd = np.floor(x / cell + shift[0]) + np.floor(y / cell + shift[1])
    return (odd % 2).astype(np.float32)


def _blotches(rng: np.random.Generator, x: Array, y: Array) -> Array:
    field = _noise(rng, x, y, (4, 9, 18))
    return np.clip((field - 0.5) * np.float32(rng.uniform(4.0, 14.0)) + 0.5, 0.0, 1.0)


def _cells(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Voronoi cells with a random level each."""
    count = int(rng.integers(8, 18))
    points = rng.uniform(_LOW, _HIGH, size=(count, 2)).astype(np.float32)
    levels = rng.random(count, dtype=np.float32)
    # |p|^2 is the same for all sites, so nearest = smallest of |s|^2 - 2 p.s: one small GEMM.
    linear_x = -2 * x.ravel()[None, :] * points[:, :1]
    linear_y = -2 * y.ravel()[None, :] * points[:, 1:]
    best = np.full((y.size, x.size), np.inf, np.float32)
    plane = np.zeros_like(best)
    for site in range(count):
        far = linear_y[site][:, None] + (linear_x[site] + (points[site] ** 2).sum())[None, :]
        nearer = far < best
        best[nearer] = far[nearer]
        plane[nearer] = levels[site]
    return plane


def _scene(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Bands like sky and ground, with a few box-like things standing on the ground line."""
    horizon = float(rng.uniform(0.3, 0.75))
    hills = _lattice(rng.random((9, 9), dtype=np.float32), x, np.zeros((1, 1), np.float32))
    line = horizon + np.float32(rng.uniform(0.0, 0.15)) * (hills - 0.5)
    plane = np.where(y > line, 0.75 + 0.25 * y, 0.1 + 0.2 * y).astype(np.float32)
    for _ in range(int(rng.integers(2, 9))):
        left, width = rng.uniform(_LOW, _HIGH), rng.uniform(0.06, 0.3)
        top, bottom = horizon - rng.uniform(0.05, 0.35), horizon + rng.uniform(0.0, 0.2)
        rows, columns = _span(y, top, bottom), _span(x, left, left + width)
        plane[rows, columns] = rng.uniform(0.2, 0.9)
    return np.clip(plane, 0.0, 1.0)


def _span(axis: Array, low: float, high: float) -> slice:
    """The slice of the samples of a sorted axis that lie in [low, high)."""
    first, last = np.searchsorted(axis.ravel(), [low, high])
    return slice(int(first), int(last))


_MASKS = {
    "noise": _noise,
    "gradient": _gradient,
    "stripes": _stripes,
    "board": _board,
    "blotches": _blotches,
    "cells": _cells,
    "scene": _scene,
}


def _distract(rng: np.random.Generator, plane: Array, x: Array, y: Array) -> None:
    """Paint a few grey lines and soft grey blobs, which are no objects, into the plane."""
    if rng.random() < 0.6:
        return
    for _ in range(int(rng.integers(1, 5))):
        grey = np.float32(rng.uniform(0.15, 0.85))
        center = rng.uniform(_LOW / 2, 1 - _LOW / 2, size=2).astype(np.float32)
        if rng.random() < 0.5:
            angle = rng.uniform(0, np.pi)
            away = (x - center[0]) * np.float32(np.sin(angle))
            away = np.abs(away - (y - center[1]) * np.float32(np.cos(angle)))
            mask = np.clip(2.0 - away / np.float32(rng.uniform(0.004, 0.012)), 0.0, 1.0)
        else:
            spread = rng.uniform(0.06, 0.2, size=2).astype(np.float32)
            mask = np.exp(-(((x - center[0]) / spread[0]) ** 2))
            mask = mask * np.exp(-(((y - center[1]) / spread[1]) ** 2))
        plane += (np.float32(0.7) * mask)[None] * (grey - plane)
