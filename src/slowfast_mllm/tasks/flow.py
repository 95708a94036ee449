"""How the picture as a whole moved between two frames: shift, zoom and roll, by least squares.

Blocks of the picture are followed by themselves (Lucas and Kanade), and one movement is fitted to
those that agree: what moves in front of a camera moves otherwise and is left aside. A block whose
edges have one direction tells what it can, the movement across them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_BLOCK = 10  # pixels a side
_ROUNDS = (6, 4, 3)  # of following at each level, fine to coarse
_LONGEST_STEP = 2.0  # pixels a round
_LEAST_TEXTURE = 2.0  # mean squared slope of a block that can be followed, levels² a pixel²
_AGREE = 0.3  # pixels by which what agrees may differ
_DRAWS = 24  # pairs of blocks that propose a movement
_FITS = 6
# A standing background is taken for the movement where it is this part of the best there is.
_STANDING = 0.6


@dataclass(frozen=True)
class Movement:
    """From one frame to another.

    Attributes:
        by: float64 (4,): to the right and down, in widths of the picture; by how much it grew, as a
            natural logarithm; radians by which it turned clockwise.
        agreeing: share of what can be followed that moved so.
        still: share that did not move at all.
        outward: mean cosine between where what moved went and the way out from the middle.
        followed: share of the picture that can be followed.
    """

    by: NDArray[np.float64]
    agreeing: float
    still: float
    outward: float
    followed: float


def pyramid(luma: Floats) -> list[Floats]:
    """A grey picture (H, W) and its halves, fine to coarse."""
    levels = [luma]
    while len(levels) < len(_ROUNDS) and min(levels[-1].shape) >= 3 * _BLOCK:
        levels.append(_halved(levels[-1]))
    return levels


def _halved(a: Floats) -> Floats:
    a = a[: a.shape[0] // 2 * 2, : a.shape[1] // 2 * 2]
    return (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) * np.float32(0.25)


def movement(
    before: list[Floats], after: list[Floats], guess: NDArray[np.float64] | None = None
) -> Movement:
    """How the picture moved between two frames.

    Args:
        before, after: pyramids of one size; of pictures under 20 pixels nothing is followed.
        guess: `Movement.by`, where it is known about.
    """
    if min(before[0].shape) < 2 * _BLOCK:
        return Movement(np.zeros(4), 0.0, 0.0, 0.0, 0.0)
    centres, shape = _grid(*before[0].shape)
    width = before[0].shape[1]
    flow = np.zeros_like(centres)
    if guess is not None:
        flow = (width * (shape @ guess)).astype(np.float32)
    for level in reversed(range(len(before))):
        scale = 2**level
        blocks = _Blocks(before[level], (centres + 0.5) / scale - 0.5)
        flow = scale * blocks.follow(after[level], flow / scale, _ROUNDS[level])
    found = blocks.texture > _LEAST_TEXTURE
    found &= blocks.error < 0.25 * blocks.contrast + 4  # others were lost on the way
    share = float(found.mean())
    if found.sum() < 6:
        return Movement(np.zeros(4), 0.0, 0.0, 0.0, share)
    fit = _Fit(shape[found], flow[found], blocks.information[found], width)
    by, agreeing, still = fit.best(guess)
    return Movement(by, agreeing, still, _outward(shape[found], flow[found]), share)


def _outward(shape: NDArray[np.float64], flow: Floats) -> float:
    length = np.linalg.norm(flow, axis=1)
    moved = length > _AGREE
    if not moved.any():
        return 0.0
    way = shape[:, :, 2]  # from the middle
    along = (way * flow).sum(1) / (np.linalg.norm(way, axis=1) * length + 1e-6)
    return float(along[moved].mean())


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> tuple[Floats, NDArray[np.float64]]:
    """Middles of the blocks (N, 2) in pixels, and what a movement does there, in widths, (N, 2, 4).

    Pairs are x and y.
    """
    rows, columns = max(1, height // _BLOCK), max(1, width // _BLOCK)
    ys = (np.arange(rows) + 0.5) * height / rows - 0.5
    xs = (np.arange(columns) + 0.5) * width / columns - 0.5
    centres = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2).astype(np.float32)
    x, y = ((centres - [(width - 1) / 2, (height - 1) / 2]) / width).T
    one, none = np.ones_like(x), np.zeros_like(x)
    shape = np.stack([np.stack([one, none, x, -y], -1), np.stack([none, one, y, x], -1)], 1)
    return centres, shape


_OFFSETS = np.arange(_BLOCK, dtype=np.float32) - (_BLOCK - 1) / 2
_OFFSETS = np.stack(np.meshgrid(_OFFSETS, _OFFSETS), -1).reshape(-1, 2)


class _Blocks:
    """The blocks of one picture around `centres` (N, 2), and where they went."""

    def __init__(self, picture: Floats, centres: Floats) -> None:
        self._places = centres[:, None] + _OFFSETS
        down, right = (np.asarray(slope, np.float32) for slope in np.gradient(picture))
        self._right = _centred(_at(right, self._places))
        self._down = _centred(_at(down, self._places))
        self._picture = _centred(_at(picture, self._places))
        xx, xy, yy = (
            (a * b).mean(1)
            for a, b in (
                (self._right, self._right),
                (self._right, self._down),
                (self._down, self._down),
            )
        )
        self.texture = xx + yy
        self.contrast = (self._picture**2).mean(1)
        structure = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
        # Of strong edges no more is believed than of plain ones.
        self.information = structure / (self.texture[:, None, None] / 2 + 4)
        self._inverse = np.linalg.inv(structure + np.eye(2, dtype=np.float32))
        self.error = self.contrast

    def follow(self, after: Floats, flow: Floats, rounds: int) -> Floats:
        """Where they are in another picture, (N, 2) pixels away; `error`: what differs there."""
        for _ in range(rounds):
            error = self._difference(after, flow)
            slope = np.stack([(self._right * error).mean(1), (self._down * error).mean(1)], -1)
            step = np.einsum("nij,nj->ni", self._inverse, slope)
            length = np.linalg.norm(step, axis=1, keepdims=True)
            flow = flow - step * np.minimum(1, _LONGEST_STEP / np.maximum(length, 1e-6))
        self.error = (self._difference(after, flow) ** 2).mean(1)
        return flow

    def _difference(self, after: Floats, flow: Floats) -> Floats:
        return _centred(_at(after, self._places + flow[:, None])) - self._picture


def _centred(values: Floats) -> Floats:
    """Without the mean of each block: light may change."""
    return values - values.mean(1, keepdims=True)


def _at(picture: Floats, places: Floats) -> Floats:
    """Values between pixels, at (..., 2); beyond the border those of the border."""
    height, width = picture.shape
    x = np.clip(places[..., 0], 0, width - 1.001)
    y = np.clip(places[..., 1], 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = x - left, y - top
    values, first = picture.ravel(), top * width + left
    upper = values[first] * (1 - x) + values[first + 1] * x
    lower = values[first + width] * (1 - x) + values[first + width + 1] * x
    below: Floats = upper * (1 - y) + lower * y
    return below


class _Fit:
    """One movement for blocks of which some move otherwise."""

    def __init__(
        self, shape: NDArray[np.float64], flow: Floats, information: Floats, width: int
    ) -> None:
        self._shape, self._flow = shape * width, flow
        self._information = information
        self._weak = 1e-3 * width * np.diag([1.0, 1.0, 0.1, 0.1])

    def best(self, guess: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], float, float]:
        """The movement, and the shares that agree and that stand still."""
        proposals = [np.zeros(4), *([] if guess is None else [guess]), *self._drawn()]
        votes = [self._votes(by) for by in proposals]
        by = self._refined(proposals[int(np.argmax(votes))])
        standing = self._refined(np.zeros(4))
        if self._votes(standing) >= _STANDING * self._votes(by):
            by = standing
        shares = [float((self._distance(b) < _AGREE**2).mean()) for b in (by, np.zeros(4))]
        return by, shares[0], shares[1]

    def _drawn(self) -> list[NDArray[np.float64]]:
        """Movements of two blocks each, the same draws each time."""
        pairs = np.random.default_rng(0).integers(0, len(self._flow), (_DRAWS, 2))
        matrices = self._shape[pairs].reshape(-1, 4, 4)
        apart = np.abs(matrices[:, 0, 2] - matrices[:, 2, 2]) + np.abs(
            matrices[:, 1, 2] - matrices[:, 3, 2]
        )
        usable = apart > 2 * _BLOCK
        flows = self._flow[pairs].reshape(-1, 4, 1)
        return list(np.linalg.solve(matrices[usable], flows[usable])[..., 0])

    def _distance(self, by: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared pixels, of what each block can tell."""
        rest = self._flow - self._shape @ by
        return np.einsum("ni,nij,nj->n", rest, self._information, rest)

    def _votes(self, by: NDArray[np.float64]) -> float:
        return float((1 / (1 + self._distance(by) / _AGREE**2)).sum())

    def _refined(self, by: NDArray[np.float64]) -> NDArray[np.float64]:
        for _ in range(_FITS):
            weights = 1 / (1 + self._distance(by) / _AGREE**2) ** 2
            weighted = np.einsum("n,nki,nkl->nil", weights, self._shape, self._information)
            left = np.einsum("nil,nlj->ij", weighted, self._shape) + self._weak
            by = np.linalg.solve(left, np.einsum("nil,nl->i", weighted, self._flow))
        return by
