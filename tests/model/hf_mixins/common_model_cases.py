"""transformers' common model tests, run on Slow-Fast by `test_hf_mixins.py` in its own process.

Every test of theirs that does not apply is named here with the reason.
"""

import unittest
from unittest import mock

import torch
from hf_common_tests.generation.test_utils import GenerationTesterMixin
from hf_common_tests.test_modeling_common import ModelTesterMixin
from tiny_models import tiny_config
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration, SlowFastModel
from slowfast_mllm.model.modeling_slowfast import SlowFastPreTrainedModel

VIDEO_TOKEN, IMAGE_TOKEN, FIRST_TEXT_TOKEN = 4, 5, 6

# Their tests look the loss and the labels of a class up in these tables by its name.
modeling_auto.MODEL_MAPPING_NAMES["slowfast"] = "SlowFastModel"
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["slowfast"] = (
    "SlowFastForConditionalGeneration"
)


class SlowFastModelTester:
    """Makes small configurations and inputs: in each row text, one video, text."""

    # Seven rows because that is what their attention tests fill a smaller batch up to, with random
    # ids that may be placeholders.
    batch_size, num_frames, seq_length = 7, 4, 15
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 4
    is_training = True

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent
        self.video_token, self.image_token = VIDEO_TOKEN, IMAGE_TOKEN

    def get_config(self) -> SlowFastConfig:
        return tiny_config(
            text={"num_hidden_layers": self.num_hidden_layers},
            hybrid_layers=[1],
            video_token_id=self.video_token,
            image_token_id=self.image_token,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[SlowFastConfig, dict]:
        config = self.get_config()
        shape = (self.batch_size, self.seq_length)
        ids = torch.randint(FIRST_TEXT_TOKEN, config.text_config.vocab_size, shape)
        ids[:, 3:11] = VIDEO_TOKEN
        return config, {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == VIDEO_TOKEN) * 2,
            "pixel_values_videos": torch.randn(self.batch_size, self.num_frames, 3, 32, 32),
        }


class SlowFastCommonTest(ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (SlowFastModel, SlowFastForConditionalGeneration)
    additional_model_inputs = ["pixel_values_videos"]
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True  # run it: our files carry no date

    def setUp(self) -> None:
        self.model_tester = SlowFastModelTester(self)
        if "rope_scaling" in self._testMethodName:  # feeds ids of the whole vocabulary, no pixels
            self.model_tester.video_token, self.model_tester.image_token = 10_000, 10_001

    @unittest.skip(
        "It asks the attention modules for the name that the user chose. Hybrid layers name our "
        "interface, which calls the kernel of the user's choice: test_attention_interface.py."
    )
    def test_attn_implementation_composite_models(self) -> None:
        pass

    @unittest.skip(
        "It wants the tower's states beside the answer. Frames go through the tower in chunks and "
        "are let go, so that memory is bounded; `encode_video` returns what is kept of them."
    )
    def test_multimodal_outputs_are_returned(self) -> None:
        pass

    def test_reverse_loading_mapping(self) -> None:
        """Our models save the native layout unless asked; this test is about the official one."""
        original = {"save_pretrained": PreTrainedModel.save_pretrained}
        with mock.patch.multiple(SlowFastPreTrainedModel, **original):
            super().test_reverse_loading_mapping(skip_base_model=True)
