"""Fixtures that the tests of the processor share."""

import pytest
from processor_parts import tiny_model, tiny_processor, write_clip

from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds of numbered frames."""
    return str(write_clip(tmp_path_factory.mktemp("clips") / "numbered.mp4"))


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three numbered frames."""
    return str(write_clip(tmp_path_factory.mktemp("clips") / "short.mp4", num_frames=3))


@pytest.fixture(scope="module")
def processor() -> SlowFastProcessor:
    """Packaged defaults with four frames a video."""
    return tiny_processor()


@pytest.fixture(scope="module")
def model() -> SlowFastForConditionalGeneration:
    """A model that `processor` fits."""
    return tiny_model()
