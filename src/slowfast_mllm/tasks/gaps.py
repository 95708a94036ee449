"""Between frames that were looked at: which of the others show what these do not."""

import heapq
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Small = NDArray[np.float32]

_PART = 16  # of the picture one in so many cells counts, those that differ most: a flash is small
_LEAST = 6.0  # levels, of 255; what is less is noise and coding


def unexplained(small: Small, seen: Sequence[int], most: int) -> list[int]:
    """Frames that show most of what the looked-at ones before and after them do not.

    What lies between two pictures, as where something moves on or light changes by and by, is
    explained by the two; what comes and goes between them is not. A frame that is found counts as
    looked at for those that are found after it.

    Args:
        small: float32 (N, H, W, 3), 0 to 255, of frames in order.
        seen: positions of those that were looked at, sorted.
        most: how many to find.

    Returns:
        Positions, the most surprising first; fewer than `most` where nothing else comes and goes.
    """
    gaps = [_least_explained(small, a, b) for a, b in pairwise(seen) if b - a > 1]
    heapq.heapify(gaps)
    found: list[int] = []
    while gaps and len(found) < most:
        surprise, at, first, last = heapq.heappop(gaps)
        if -surprise < _LEAST:
            break
        found.append(at)
        for a, b in ((first, at), (at, last)):
            if b - a > 1:
                heapq.heappush(gaps, _least_explained(small, a, b))
    return found


def _least_explained(small: Small, first: int, last: int) -> tuple[float, int, int, int]:
    """The frame between two others that they explain the least: by how many levels, negative so
    that the largest sorts first; its position, and theirs."""
    between, before, after = small[first + 1 : last], small[first], small[last]
    apart = np.minimum(np.abs(between - before), np.abs(between - after)) - np.abs(before - after)
    cells = apart.mean(-1).clip(min=0).reshape(len(between), -1)
    count = max(1, cells.shape[1] // _PART)
    surprise = np.partition(cells, -count, axis=1)[:, -count:].mean(1)
    at = int(surprise.argmax())
    return -float(surprise[at]), first + 1 + at, first, last


def middles(seen: Sequence[int], around: Sequence[int], most: int) -> list[int]:
    """Frames in the middle of the longest gaps beside some of those that were looked at.

    Args:
        seen: positions of those that were looked at, sorted.
        around: of some of them.
    """
    near = set(around)
    gaps = [(a - b, a, b) for a, b in pairwise(seen) if b - a > 1 and near & {a, b}]
    heapq.heapify(gaps)
    found: list[int] = []
    while gaps and len(found) < most:
        _, first, last = heapq.heappop(gaps)
        middle = (first + last) // 2
        found.append(middle)
        for a, b in ((first, middle), (middle, last)):
            if b - a > 1:
                heapq.heappush(gaps, (a - b, a, b))
    return found
