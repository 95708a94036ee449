"""Paths and clips that several video tests share."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_clips import Picture, decode_all, encode_clip

SHARED = Path(__file__).resolve().parents[3] / "shared"
ODD = SHARED / "videos" / "odd"


def odd_entries() -> list[dict[str, Any]]:
    """The entries of the manifest of odd files, none where there is no shared folder."""
    manifest = ODD / "MANIFEST.json"
    return json.loads(manifest.read_text())["files"] if manifest.is_file() else []


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
