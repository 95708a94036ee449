"""Draw examples/photos.mp4: three photographs on a wall, seen by a camera whose motion is known.

The photographs ship in scikit-image, which the project itself does not need:

    python -m venv /tmp/photos
    /tmp/photos/bin/pip install scikit-image==0.26.0 av==18.1.0 pillow==13.0.0
    /tmp/photos/bin/python examples/draw_photos.py examples/photos.mp4

With these versions every run writes the same file. What is seen when, and whose photographs they
are: examples/README.md.
"""

import argparse
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files

import av
import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT, FPS = 640, 360, 25
WALL, FRAME = (196, 190, 180), 0.025  # the white frame's width, in heights of the photograph


@dataclass(frozen=True)
class Camera:
    """What it shows: `height` of the wall, its middle `right` of the photograph's. Both in heights
    of the photograph."""

    right: float
    height: float


@dataclass(frozen=True)
class Shot:
    """One photograph for `seconds`, the camera moving evenly from `first` to `last`."""

    photo: str
    seconds: float
    first: Camera
    last: Camera


SHOTS = (
    Shot("chelsea.png", 4, Camera(0, 1.08), Camera(0, 1.08)),  # a cat; still
    Shot("coffee.png", 4, Camera(-0.25, 1.12), Camera(0.25, 1.12)),  # a cup; pan to the right
    Shot("astronaut.png", 4, Camera(0, 1.45), Camera(0, 1.0)),  # a person; zoom in
)


def wall_with(name: str) -> tuple[Image.Image, int]:
    """The photograph framed, in the middle of a wall larger than any view; and its height."""
    with Image.open(str(files("skimage.data") / name)) as image:
        photo = image.convert("RGB")
    framed = ImageOps.expand(photo, round(FRAME * photo.height), "white")
    return ImageOps.expand(framed, 2 * photo.height, WALL), photo.height


def frames(shot: Shot) -> list[Image.Image]:
    """All frames of a shot."""
    wall, unit = wall_with(shot.photo)
    views = []
    for part in np.linspace(0, 1, round(shot.seconds * FPS)):
        right = shot.first.right + part * (shot.last.right - shot.first.right)
        # Even to the eye is a zoom by the same factor in every step.
        height = unit * shot.first.height * (shot.last.height / shot.first.height) ** part
        width = height * WIDTH / HEIGHT
        left, top = wall.width / 2 + right * unit - width / 2, wall.height / 2 - height / 2
        box = (left, top, left + width, top + height)
        views.append(wall.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))
    return views


def main(path: str) -> None:
    """Encode the shots one after the other as H.264."""
    with av.open(path, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "23", "preset": "slow", "threads": "1"}
        for shot in SHOTS:
            for view in frames(shot):
                container.mux(stream.encode(av.VideoFrame.from_image(view)))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="the clip to write")
    main(parser.parse_args().path)
