"""Videos, images and text to model inputs: one placeholder per fast token, chat template, decoding.

Knows how many tokens a video has; never touches weights.
"""

import os
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.processing_utils import ProcessingKwargs
from transformers.utils import PROCESSOR_NAME, cached_file
from transformers.video_processing_utils import VideoProcessorMixin

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig
from slowfast_mllm.model.visual_tokens import num_fast_frames
from slowfast_mllm.processing.video_processing_slowfast import (
    SlowFastVideoProcessor,
    SlowFastVideosKwargs,
)

IMAGE_TOKEN, VIDEO_TOKEN = "<image>", "<video>"
_CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


class SlowFastProcessingKwargs(ProcessingKwargs, total=False):
    """Arguments of a call, by modality."""

    videos_kwargs: SlowFastVideosKwargs
    _defaults = {"text_kwargs": {"padding": False, "return_mm_token_type_ids": True}}


class SlowFastProcessor(ProcessorMixin):
    """Tokenizer, image processor and video processor of a Slow-Fast model.

    Args:
        patch_size: pixels per cell of the vision tower's map.
        slow_spatial_pool, fast_frame_stride, fast_temporal_pool, fast_spatial_pool,
            min_fast_frames: as in the model's config; they say how many fast tokens a video has.
        write_timestamps: put the time of each fast step, like `[2.5s]`, before its tokens.
    """

    valid_processor_kwargs = SlowFastProcessingKwargs
    return_mm_token_type_ids = True
    image_token, video_token = IMAGE_TOKEN, VIDEO_TOKEN

    def __init__(
        self,
        image_processor: Any,
        tokenizer: PreTrainedTokenizerBase,
        video_processor: SlowFastVideoProcessor,
        chat_template: str | None = None,
        patch_size: int = 32,
        slow_spatial_pool: int = 2,
        fast_frame_stride: int = 1,
        fast_temporal_pool: int = 4,
        fast_spatial_pool: int = 1,
        min_fast_frames: int = 16,
        write_timestamps: bool = False,
    ) -> None:
        self.patch_size = patch_size
        self.slow_spatial_pool = slow_spatial_pool
        self.fast_frame_stride = fast_frame_stride
        self.fast_temporal_pool = fast_temporal_pool
        self.fast_spatial_pool = fast_spatial_pool
        self.min_fast_frames = min_fast_frames
        self.write_timestamps = write_timestamps
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.video_token_id = tokenizer.convert_tokens_to_ids(VIDEO_TOKEN)
        super().__init__(image_processor, tokenizer, video_processor, chat_template=chat_template)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """As the base class, which without torchvision cannot judge video processors."""
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, VideoProcessorMixin):
            raise TypeError(f"video_processor: got {type(argument).__name__}, not a processor.")
        return VideoProcessorMixin

    @classmethod
    def from_config(
        cls,
        config: SlowFastConfig,
        tokenizer: PreTrainedTokenizerBase,
        num_frames: int | None = None,
        **kwargs: Any,
    ) -> "SlowFastProcessor":
        """The packaged defaults for a model: published preprocessing and chat template.

        Args:
            tokenizer: gets the `<image>` and `<video>` tokens if it lacks them.
            num_frames: frames sampled by default; None: the published 64.
        """
        tokenizer.add_tokens([IMAGE_TOKEN, VIDEO_TOKEN], special_tokens=True)
        edge = config.vision_config.image_size
        sizes = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge}}
        fields = {
            name: getattr(config, name)
            for name in ("slow_spatial_pool", "fast_frame_stride", "fast_temporal_pool",
                         "fast_spatial_pool", "min_fast_frames")
        }  # fmt: skip
        return cls(
            CLIPImageProcessorPil(**sizes),
            tokenizer,
            SlowFastVideoProcessor(num_frames=num_frames, **sizes),
            chat_template=_CHAT_TEMPLATE.read_text(encoding="utf-8"),
            patch_size=config.vision_config.patch_size,
            **(fields | kwargs),
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "SlowFastProcessor":
        """As in transformers; a checkpoint without processor files gets the packaged defaults."""
        path = str(pretrained_model_name_or_path)
        if cached_file(path, PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False):
            return super().from_pretrained(path, **kwargs)
        config = AutoConfig.from_pretrained(path)
        return cls.from_config(config, AutoTokenizer.from_pretrained(path))

    @property
    def model_input_names(self) -> list[str]:
        return [*super().model_input_names, "mm_token_type_ids"]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        height, width = image_inputs["pixel_values"][image_idx].shape[-2:]
        return IMAGE_TOKEN * self._cells(height, width, self.fast_spatial_pool)

    def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs: Any) -> str:
        frames = video_inputs["pixel_values_videos"][video_idx]
        num_frames, _, height, width = frames.shape
        steps = num_fast_frames(
            num_frames, self.fast_frame_stride, self.fast_temporal_pool, self.min_fast_frames
        )
        cells = VIDEO_TOKEN * self._cells(
            height, width, self.slow_spatial_pool, self.fast_spatial_pool
        )
        if not self.write_timestamps:
            return cells * steps
        times = video_inputs["video_timestamps"][video_idx]
        starts = [float(times[i * num_frames // steps]) for i in range(steps)]
        return "".join(f"[{start:.1f}s]{cells}" for start in starts)

    def _cells(self, height: int, width: int, *pools: int) -> int:
        """Tokens of one map: patches, then one rounding down per pooling."""
        rows, columns = height // self.patch_size, width // self.patch_size
        for pool in pools:
            rows, columns = rows // pool, columns // pool
        return rows * columns
