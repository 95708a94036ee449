"""The clips of examples/: they are what their README tells."""

from pathlib import Path

import numpy as np

from slowfast_mllm.video import probe_video, read_video

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_photographs_are_seen_when_the_readme_says() -> None:
    path = EXAMPLES / "photos.mp4"
    assert path.stat().st_size < 1_500_000
    found = probe_video(path)
    assert (found.num_frames, found.fps, found.width, found.height) == (300, 25, 640, 360)
    frames = read_video(path, num_frames=300).frames[:, ::4, ::4].astype(float)
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    cuts = np.flatnonzero(change > 10) + 1
    assert (cuts / 25).tolist() == [4, 8]
    assert change[:99].mean() < 0.3  # the camera stands still
    assert change[100:199].mean() > 0.8  # … pans
    assert change[200:].mean() > 0.8  # … zooms
