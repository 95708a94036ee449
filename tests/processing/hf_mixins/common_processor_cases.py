"""transformers' common tests of processors, run on ours by `test_hf_processor_mixins.py`.

Every test of theirs that ends differently here is named with the reason. Those that they skip
themselves are about sound (we hear none), tools in the template, compiling on an accelerator, and
validation by a decorator that no current processor uses.
"""

import unittest
from typing import Any

import numpy as np
import pytest
from processor_parts import EDGE, tiny_processor
from transformers import testing_utils
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor

# Their readers need torchcodec; ours does not, so these tests can run.
testing_utils.require_torchcodec = lambda test: test

from hf_common_tests import test_video_processing_common as video_tests  # noqa: E402
from hf_common_tests.test_processing_common import ProcessorTesterMixin  # noqa: E402

# The public name is a dummy where torchvision is absent; this is the class behind it.
video_tests.AutoVideoProcessor = AutoVideoProcessor

NOT_RAISED = "ValueError not raised"


class SlowFastProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = SlowFastProcessor

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        return tiny_processor().tokenizer

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return CLIPImageProcessorPil(size={"shortest_edge": EDGE}, crop_size=EDGE)

    @classmethod
    def _setup_video_processor(cls) -> Any:
        return tiny_processor().video_processor

    @staticmethod
    def prepare_processor_dict() -> dict[str, Any]:
        processor = tiny_processor()
        names = ("patch_size", "fast_temporal_pool", "min_fast_frames", "chat_template")
        return {name: getattr(processor, name) for name in names}

    @property
    def video_sampling_expectations(self) -> list[dict[str, Any]]:
        """For 11 frames at 30 a second; we sample four unless told otherwise, at ticks of time."""
        return [
            {"num_frames": 3, "fps": None, "expected_dim": 1, "output_length": 3},
            {"num_frames": None, "fps": 10, "expected_dim": 1, "output_length": 4},
            {"do_sample_frames": False, "fps": 10, "expected_dim": 1, "output_length": 11},
            {"do_sample_frames": False, "expected_dim": 1, "output_length": 11},
            {"expected_dim": 1, "output_length": 4},
        ]

    def test_apply_chat_template_video_frame_sampling(self) -> None:
        """The last of its checks: frames given as a list cannot be sampled. Ours can."""
        with pytest.raises(AssertionError, match=NOT_RAISED):
            super().test_apply_chat_template_video_frame_sampling()


class SlowFastVideoProcessorTester:
    """Makes videos and says which shape they should come out with."""

    batch_size, num_frames, num_channels = 5, 8, 3
    min_resolution, max_resolution = 30, 80

    def prepare_video_inputs(
        self, equal_resolution: bool = False, return_tensors: str = "pil"
    ) -> list[Any]:
        return video_tests.prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=self.min_resolution,
            max_resolution=self.max_resolution,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )

    def expected_output_video_shape(self, videos: list[Any]) -> tuple[int, int, int, int]:
        return self.num_frames, 3, 18, 18


class SlowFastVideoProcessorTest(video_tests.VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = SlowFastVideoProcessor
    test_cast_dtype = True

    def setUp(self) -> None:
        super().setUp()
        np.random.seed(0)
        self.video_processor_tester = SlowFastVideoProcessorTester()

    @property
    def video_processor_dict(self) -> dict[str, Any]:
        return {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": 18, "width": 18},
            "do_sample_frames": False,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }

    def test_call_sample_frames(self) -> None:
        """The last of its checks: more frames than there are is an error. Ours repeats the last."""
        with pytest.raises(AssertionError, match=NOT_RAISED):
            super().test_call_sample_frames()


# The mixins themselves hold no tests to run.
del ProcessorTesterMixin
