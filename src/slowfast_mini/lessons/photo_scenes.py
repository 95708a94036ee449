"""Photographs as scenes under a known camera: real texture and real things, with exact truth about
camera and cuts. What is in them is what the object tower finds.

A scene is a script of the world without anything drawn; its planes are whole photographs.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import Dataset

from slowfast_mini import world
from slowfast_mini.lessons.world_data import CLIP_MEAN
from slowfast_mini.world.geometry import camera_at, evaluate
from slowfast_mini.world.render import film, sample_look
from slowfast_mini.world.script import Script, stream

# Width to height of what people film: phones upright and across, old and new television, square.
_ASPECTS = (16 / 9, 16 / 9, 16 / 9, 4 / 3, 3 / 2, 1.0, 9 / 16, 3 / 4)
BORDER = tuple(round(255 * level) for level in CLIP_MEAN)  # with which a processor pads


def scene_script(seed: int) -> Script:
    """A script in which nothing is drawn but, at times, a letter or digit."""
    script = world.sample_script(seed)
    return replace(script, objects=(), distractors=(), needle=None)


@dataclass(frozen=True)
class PhotoScenes(Dataset):
    """Frames of `count` scenes from `first_seed` on: uint8 (T, size, size, 3), padded to squares.

    `photos` are files; each shot has one of them.
    """

    first_seed: int
    count: int
    num_frames: int
    size: int
    photos: tuple[str, ...]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        script = scene_script(self.first_seed + index)
        times = world.frame_times(script.duration, self.num_frames)
        return render_scene(script, times, self.size, self.photos)


def render_scene(
    script: Script, times: np.ndarray, size: int, photos: tuple[str, ...]
) -> np.ndarray:
    """Frames (T, size, size, 3) uint8: the picture between borders of `BORDER`."""
    rng = stream(script.seed, "photo scene")
    aspect = float(rng.choice(_ASPECTS))
    look, state = sample_look(script.seed), evaluate(script, times)
    offset, zoom, turn = camera_at(script, times, state.shot)
    frames = torch.empty(len(times), 3, size, size)
    chosen = rng.integers(len(photos), size=len(script.shots))
    part = rng.uniform(0.6, 1.0, size=len(script.shots))
    for shot in np.unique(state.shot):
        rows = np.flatnonzero(state.shot == shot)
        plane = look.apply(_photo(photos[chosen[shot]], mirrored=bool(rng.random() < 0.5)))
        side = part[shot] * min(plane.shape[2], plane.shape[1] * aspect)
        grid = _grid(offset[rows], zoom[rows], turn[rows], size, side, plane.shape[1:])
        frames[torch.from_numpy(rows)] = F.grid_sample(
            plane.expand(len(rows), -1, -1, -1),
            grid,
            padding_mode="reflection",
            align_corners=False,
        )
    pictures = film(frames, script, times, state, look)
    return _bordered(pictures, aspect)


def _photo(path: str, mirrored: bool) -> torch.Tensor:
    """(3, H, W) in 0..1."""
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    return pixels.flip(2) if mirrored else pixels


def _grid(
    offset: np.ndarray,
    zoom: np.ndarray,
    turn: np.ndarray,
    size: int,
    side: float,
    shape: torch.Size,
) -> torch.Tensor:
    """Where each pixel of each frame lies on the plane, for `grid_sample`: (T, size, size, 2).

    `side` pixels of the plane, whose middle the camera begins at, fill the longer side of a frame.
    """
    axis = torch.from_numpy((np.arange(size) + 0.5) / size - 0.5).float()
    zooms, cos, sin = (
        torch.from_numpy(values).float()[:, None, None]
        for values in (zoom, np.cos(turn), np.sin(turn))
    )
    x, y = axis[None, None, :] / zooms, axis[None, :, None] / zooms
    shift = torch.from_numpy(offset).float()
    world_x = cos * x + sin * y + shift[:, 0, None, None]
    world_y = cos * y - sin * x + shift[:, 1, None, None]
    height, width = shape
    return torch.stack([2 * side * world_x / width, 2 * side * world_y / height], -1)


def _bordered(pictures: np.ndarray, aspect: float) -> np.ndarray:
    """Borders over what a frame of that aspect does not show of a square."""
    size = pictures.shape[1]
    shown = round(size * min(aspect, 1 / aspect))
    first = (size - shown) // 2
    outside = np.ones(size, bool)
    outside[first : first + shown] = False
    if aspect >= 1:
        pictures[:, outside] = BORDER
    else:
        pictures[:, :, outside] = BORDER
    return pictures
