"""Names of the colors of real things, where a color is plain: eleven basic ones."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# Tones that people call so, sRGB of 0..255, also as they are in shade and in poor light.
_TONES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((200, 30, 35), (150, 25, 30), (220, 60, 55), (110, 20, 25)),
    "orange": ((240, 130, 30), (225, 110, 40), (200, 105, 30)),
    "yellow": ((245, 220, 50), (225, 195, 60), (200, 170, 30)),
    "green": ((50, 150, 60), (30, 90, 40), (110, 170, 60), (75, 110, 50), (120, 200, 120)),
    "blue": ((40, 80, 190), (30, 50, 110), (90, 150, 220), (40, 120, 200), (70, 100, 160)),
    "purple": ((120, 50, 160), (85, 45, 110), (160, 110, 200)),
    "pink": ((240, 150, 180), (225, 110, 150), (235, 180, 190)),
    "brown": ((120, 75, 40), (90, 60, 40), (150, 105, 65), (175, 130, 90)),
    "white": ((245, 245, 245), (225, 225, 222), (205, 208, 210)),
    "gray": ((130, 130, 130), (100, 100, 100), (155, 155, 155)),
    "black": ((15, 15, 15), (35, 35, 36), (50, 50, 52)),
}
COLORS = tuple(_TONES)
_FARTHEST = 20.0  # CIE76 difference to the nearest tone
_GRAY_FARTHEST = 10.0  # what has patches of several colors is grayish on the whole
_MARGIN = 1.35  # times nearer than the nearest tone of another name
_STEADY = 12.0  # mean difference of the frames to their median


def _lab(rgb: Floats) -> Floats:
    """sRGB of 0..1 (..., 3) to CIE L*a*b*."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(matrix).T / [0.9505, 1.0, 1.089]
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


_POINTS = {name: _lab(np.array(tones) / 255) for name, tones in _TONES.items()}


def plain_color(rgb: Floats) -> str | None:
    """The name of the color of frames (n, 3), RGB of 0..1; None where people would not agree."""
    lab = _lab(np.asarray(rgb, np.float64))
    middle = np.median(lab, 0)
    if np.linalg.norm(lab - middle, axis=1).mean() > _STEADY:
        return None
    far = {name: float(np.linalg.norm(p - middle, axis=1).min()) for name, p in _POINTS.items()}
    first, second = sorted(far, key=far.__getitem__)[:2]
    farthest = _GRAY_FARTHEST if first == "gray" else _FARTHEST
    plain = far[first] <= farthest and far[second] >= _MARGIN * far[first]
    return first if plain else None
