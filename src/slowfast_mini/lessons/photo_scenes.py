"""Photographs as scenes under a known camera: real texture and real things, with exact truth about
camera and cuts. What is in them is what the object tower finds.

A scene is a script of the world without anything drawn; its planes are photographs, whole or a
small part of one, in which there is little to name. Pieces of others may pass over them: what moves
by itself is not the camera.
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
from slowfast_mllm.processing.pixels import resize_whole

# Width to height of what people film: phones upright and across, old and new television, square.
_ASPECTS = (16 / 9, 16 / 9, 16 / 9, 4 / 3, 3 / 2, 1.0, 9 / 16, 3 / 4)
_CLOSE = 0.4  # of the shots show a small part
_PIECES = (0.5, 0.35, 0.15)  # of the shots have 0, 1 or 2
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


@dataclass(frozen=True)
class PhotoStills(Dataset):
    """Photographs as clips of one frame: uint8 (1, size, size, 3), padded as a processor pads."""

    size: int
    photos: tuple[str, ...]
    num_frames: int = 1

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.photos[index]) as image:
            picture = np.array(image.convert("RGB"))
        shape = {"height": self.size, "width": self.size}
        return resize_whole(picture, shape, "pad", CLIP_MEAN).permute(1, 2, 0).numpy()[None]


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
    near, far = rng.uniform([0.08, 0.6], [0.35, 1.0], size=(len(script.shots), 2)).T
    part = np.where(rng.random(len(script.shots)) < _CLOSE, near, far)
    for shot in np.unique(state.shot):
        rows = np.flatnonzero(state.shot == shot)
        plane = look.apply(_photo(photos[chosen[shot]], mirrored=bool(rng.random() < 0.5)))
        side = part[shot] * min(plane.shape[2], plane.shape[1] * aspect)
        points = _points(offset[rows], zoom[rows], turn[rows], size)
        shown = _sampled(plane, points * side)
        for _ in range(rng.choice(len(_PIECES), p=_PIECES)):
            piece = look.apply(_photo(photos[rng.integers(len(photos))], mirrored=False))
            shown = _passed_over(shown, piece, points, times[rows], rng)
        frames[torch.from_numpy(rows)] = shown
    pictures = film(frames, script, times, state, look)
    return _bordered(pictures, aspect)


def _photo(path: str, mirrored: bool) -> torch.Tensor:
    """(3, H, W) in 0..1."""
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    return pixels.flip(2) if mirrored else pixels


def _points(offset: np.ndarray, zoom: np.ndarray, turn: np.ndarray, size: int) -> torch.Tensor:
    """Where each pixel of each frame lies in the world, from the middle, in longer sides of a
    frame: (T, size, size, 2)."""
    axis = torch.from_numpy((np.arange(size) + 0.5) / size - 0.5).float()
    zooms, cos, sin = (
        torch.from_numpy(values).float()[:, None, None]
        for values in (zoom, np.cos(turn), np.sin(turn))
    )
    x, y = axis[None, None, :] / zooms, axis[None, :, None] / zooms
    shift = torch.from_numpy(offset).float()
    world_x = cos * x + sin * y + shift[:, 0, None, None]
    world_y = cos * y - sin * x + shift[:, 1, None, None]
    return torch.stack([world_x, world_y], -1)


def _sampled(photo: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """A photograph (3, H, W) at (T, size, size, 2) pixels from its middle; mirrored beyond."""
    height, width = photo.shape[1:]
    return F.grid_sample(
        photo.expand(len(pixels), -1, -1, -1),
        2 * pixels / torch.tensor([width, height]),
        padding_mode="reflection",
        align_corners=False,
    )


def _passed_over(
    pictures: torch.Tensor,
    piece: torch.Tensor,
    points: torch.Tensor,
    times: np.ndarray,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Pictures (T, 3, size, size) over which a rounded piece of a photograph passes, or rests."""
    extent, angle = rng.uniform(0.15, 0.5), rng.uniform(0, 2 * np.pi)
    speed = 0.0 if rng.random() < 0.3 else rng.uniform(0.03, 0.3)  # longer sides a second
    way = speed * np.array([np.cos(angle), 0.4 * np.sin(angle)])
    met = rng.choice(times)  # when it is at the point that is drawn for it
    middle = rng.uniform(-0.35, 0.35, 2) + way * (times[:, None] - met)
    local = (points - torch.from_numpy(middle).float()[:, None, None]) / extent
    roundness = local.abs().pow(4).sum(-1).pow(0.25)  # between an ellipse and a rectangle
    cover = ((0.5 - roundness) * 12).clamp(0, 1)[:, None]
    return torch.lerp(pictures, _sampled(piece, local * min(piece.shape[1:])), cover)


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
