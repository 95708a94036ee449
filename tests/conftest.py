"""Shared test settings: one thread per process, and where to find optional shared data."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The optional folder of real clips and golden data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED
