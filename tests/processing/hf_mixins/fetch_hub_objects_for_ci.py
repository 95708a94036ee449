"""Stands in for transformers' module of that name: what its tests would download is made here."""

import tempfile
from pathlib import Path

from PIL import Image
from processor_parts import numbered_frames, write_clip

_FOLDER = Path(tempfile.mkdtemp(prefix="slowfast-hf-mixins-"))


def url_to_local_path(url: str) -> str:
    """A local file of the same kind as the one at `url`; no sounds: nothing hears them."""
    path = _FOLDER / url.rpartition("/")[2]
    if path.exists() or path.suffix not in (".mp4", ".png", ".jpg"):
        return str(path)
    if path.suffix == ".mp4":
        write_clip(path, num_frames=11, fps=30)
    else:
        Image.fromarray(numbered_frames(8)[7]).save(path)
    return str(path)
