"""Paths and clips that several video tests share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from video_clips import Picture, decode_all, encode_clip


@pytest.fixture(scope="session")
def clip() -> bytes:
    """An H.264 mp4 of 24 numbered frames, a key frame every 8, with B frames."""
    return encode_clip("h264.mp4")


@pytest.fixture(scope="session")
def clip_frames(clip: bytes) -> Picture:
    """All frames of `clip`, uint8 (24, 48, 64, 3), by PyAV alone."""
    return np.stack(decode_all(io.BytesIO(clip)))


@pytest.fixture
def clip_path(clip: bytes, tmp_path: Path) -> Path:
    """`clip` as a file."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    return path
