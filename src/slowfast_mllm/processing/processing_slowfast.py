"""Videos, images and text to model inputs: one placeholder per fast token, chat template, decoding.

Knows how many tokens a video has; never touches weights. Loading without processor files is in
`packaged_defaults.py`.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, is_typeddict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_processing_utils import BatchFeature
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.processing_utils import ImagesKwargs, MultiModalData, ProcessingKwargs
from transformers.video_processing_utils import VideoProcessorMixin

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig
from slowfast_mllm.model.shim import PROCESSOR_AUTO_MAP, register_nothing, write_shim
from slowfast_mllm.processing.arguments import argument_errors, check_known
from slowfast_mllm.processing.inputs import list_images, list_videos, rgb_picture
from slowfast_mllm.processing.messages import with_known_parts
from slowfast_mllm.processing.packaged_defaults import (
    has_processor_files,
    load_config_and_tokenizer,
    without_where,
)
from slowfast_mllm.processing.pixels import output_shape, resize_and_crop, resize_whole
from slowfast_mllm.processing.placeholders import TokenLayout
from slowfast_mllm.processing.video_processing_slowfast import (
    SlowFastVideoProcessor,
    SlowFastVideoProcessorKwargs,
)
from slowfast_mllm.video.fitting import Fit

IMAGE_TOKEN, VIDEO_TOKEN = "<image>", "<video>"
_CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
# Up to this ratio of the edges, resizing a whole image takes tens of megabytes at most.
_ELONGATED = 32
_IGNORED = -100  # label that carries no loss
# A list under these names in the inputs of a model: videos of different length.
_RAGGED = ("pixel_values_videos", "video_timestamps", "video_frame_mask")


class SlowFastImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of images: the common ones, and `fit`, by default that of videos."""

    fit: Fit | None


class SlowFastProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of a call, by modality."""

    images_kwargs: SlowFastImagesKwargs
    videos_kwargs: SlowFastVideoProcessorKwargs
    # Where it is not yet an attribute of the processor (transformers before 5.23).
    _defaults = (
        {}
        if hasattr(ProcessorMixin, "return_mm_token_type_ids")
        else {"text_kwargs": {"return_mm_token_type_ids": True}}
    )


class ModelInputs(BatchFeature):
    """Inputs of the model. `to` moves times, but leaves them float32: bfloat16 has only seconds.

    Collators that copy `input_ids` into `labels`, as TRL's does, need not know of placeholders:
    they get -100 there, and are never learned.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        types = self.data.get("mm_token_type_ids")
        if name == "labels" and isinstance(value, Tensor) and types is not None:
            placeholders = torch.as_tensor(types, device=value.device) != 0
            if placeholders.shape == value.shape:
                value = value.masked_fill(placeholders, _IGNORED)
        self.data[name] = value

    def to(self, *args: Any, **kwargs: Any) -> "ModelInputs":
        times = self.data.get("video_timestamps")
        super().to(*args, **kwargs)
        if times is not None:
            moved = self.data["video_timestamps"]
            self.data["video_timestamps"] = (
                times.to(moved.device)
                if isinstance(times, Tensor)
                else [time.to(like.device) for time, like in zip(times, moved, strict=True)]
            )
        return self


class SlowFastProcessor(ProcessorMixin):
    """Tokenizer, image processor and video processor of a Slow-Fast model.

    Args:
        patch_size: pixels per cell of the vision tower's map.
        slow_spatial_pool, fast_frame_stride, fast_temporal_pool, fast_spatial_pool,
            min_fast_frames: as in the model's config; they say how many fast tokens a video has.
        num_objects: tokens of objects behind those of all steps.
        write_timestamps: put the mean time of each fast step, like `[2.5s]`, before its tokens.

    Raises:
        ValueError: the tokenizer lacks `<image>` or `<video>`; `from_config` adds them.
    """

    valid_processor_kwargs = SlowFastProcessorKwargs
    return_mm_token_type_ids = True
    image_token, video_token = IMAGE_TOKEN, VIDEO_TOKEN
    register_for_auto_class: Any = classmethod(register_nothing)

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
        num_objects: int = 0,
        write_timestamps: bool = False,
    ) -> None:
        self.auto_map = dict(PROCESSOR_AUTO_MAP)
        self.patch_size = patch_size
        self.slow_spatial_pool = slow_spatial_pool
        self.fast_frame_stride = fast_frame_stride
        self.fast_temporal_pool = fast_temporal_pool
        self.fast_spatial_pool = fast_spatial_pool
        self.min_fast_frames = min_fast_frames
        self.num_objects = num_objects
        self.write_timestamps = write_timestamps
        vocabulary = tokenizer.get_vocab()
        for token in (IMAGE_TOKEN, VIDEO_TOKEN):
            if token not in vocabulary:
                raise ValueError(
                    f"The tokenizer lacks the token {token}; make the processor with "
                    "SlowFastProcessor.from_config(model.config, tokenizer)."
                )
        self.image_token_id = vocabulary[IMAGE_TOKEN]
        self.video_token_id = vocabulary[VIDEO_TOKEN]
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
            num_frames: frames sampled by default; None: as in training, else 64.
            **kwargs: further arguments of the class, e.g. `write_timestamps`.
        """
        tokenizer.add_tokens([IMAGE_TOKEN, VIDEO_TOKEN], special_tokens=True)
        edge, patch = config.frame_size, config.vision_config.patch_size
        fit = {}
        if config.object_config is not None:  # the vision tower's frames are shrunk from these
            fit = {"fit": "pad"}
            patch = edge // (config.vision_config.image_size // patch)
        sizes = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge}}
        fields = {
            name: getattr(config, name)
            for name in ("slow_spatial_pool", "fast_frame_stride", "fast_temporal_pool",
                         "fast_spatial_pool", "min_fast_frames")
        }  # fmt: skip
        if config.object_config is not None:
            fields["num_objects"] = config.object_config.num_objects
        num_frames = num_frames or config.num_frames
        frames = {} if num_frames is None else {"num_frames": num_frames}
        return cls(
            CLIPImageProcessorPil(**sizes),
            tokenizer,
            SlowFastVideoProcessor(**frames, **sizes, **fit),
            chat_template=_CHAT_TEMPLATE.read_text(encoding="utf-8"),
            patch_size=patch,
            **(fields | kwargs),
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "SlowFastProcessor":
        """As in transformers; a checkpoint without processor files gets the packaged defaults."""
        path = str(pretrained_model_name_or_path)
        if has_processor_files(path, kwargs):
            return super().from_pretrained(path, **kwargs)
        processor = cls.from_config(*load_config_and_tokenizer(path, kwargs))
        given = without_where(kwargs)
        if not given:
            return processor
        with tempfile.TemporaryDirectory() as folder:  # transformers knows whose argument is whose
            processor.save_pretrained(folder)
            return super().from_pretrained(folder, **given)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As in transformers, with a file that names the package beside it."""
        saved = super().save_pretrained(save_directory, **kwargs)
        write_shim(save_directory)
        return saved

    @property
    def model_input_names(self) -> list[str]:
        """Keys of the inputs of a model that come from a call."""
        return [*super().model_input_names, "mm_token_type_ids"]

    @property
    def control_tokens(self) -> list[str]:
        """What words must not become: ends of turns, placeholders, and whatever is special."""
        added = self.tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        return sorted(special.union(self.tokenizer.all_special_tokens, (IMAGE_TOKEN, VIDEO_TOKEN)))

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; parts of type `video_url` and videos as `base64` are understood."""
        return super().apply_chat_template(with_known_parts(conversation), *args, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        videos: Any = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> ModelInputs:
        """Prompts and their videos and images to the inputs of a model.

        Args:
            images: one image or (nested) lists: path, PIL image, uint8 array, URL, bytes.
            text: one prompt or a list, with one `<video>` or `<image>` where each one goes.
            videos: one video or (nested) lists, as `SlowFastVideoProcessor` takes them.
            audio: not heard.
            **kwargs: options of the tokenizer (`padding`), of images and of videos (`num_frames` or
                `fps`, `start`, `end`, `max_frames`), and `return_tensors`.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids`: (B, L) with one placeholder for each
            fast token; `pixel_values` (num_images, 3, H, W) float32; `pixel_values_videos`,
            `video_timestamps` and `video_frame_mask` as from `SlowFastVideoProcessor`.

        Raises:
            VideoError: a video or image cannot be read; one line that names it.
            ValueError: an unknown argument, or placeholders and videos do not match.
        """
        # Converted at the end, as the base class would refuse videos of different length.
        tensor_type = kwargs.pop("return_tensors", None)
        inputs = {"images": images, "text": text, "videos": videos, "audio": audio}
        with argument_errors():
            features = super().__call__(**inputs, **kwargs)
        ragged = [name for name in _RAGGED if isinstance(features.get(name), list)]
        return ModelInputs(
            features.data,
            tensor_type,
            skip_tensor_conversion=[*self.skip_tensor_conversion, *ragged],
        )

    def prepare_inputs_layout(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **_: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Everything as flat lists, None where there is nothing."""
        rows = [text] if isinstance(text, str) else text
        wanted = None if rows is None else "".join(map(str, rows)).count(VIDEO_TOKEN)
        clips = list_videos(videos, wanted)
        return list_images(images) or None, rows and list(rows), clips or None, audio

    def validate_inputs(
        self,
        images: Any = None,
        text: Any = None,
        videos: Any = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> None:
        """Raise ValueError for unknown arguments and where placeholders and inputs do not match."""
        self._check_names(kwargs)
        if images is None and not text and videos is None:
            raise ValueError(
                "Nothing to process; give text=, images= or videos=, for example "
                "processor(text='<video>\\nWhat happens?', videos='clip.mp4')."
            )
        if text is None:
            return
        if not all(isinstance(row, str) for row in text):
            raise ValueError(
                "text must be a string or a list of strings, for example text='Hello'."
            )
        for token, name, given in (
            (IMAGE_TOKEN, "images", images),
            (VIDEO_TOKEN, "videos", videos),
        ):
            wanted = sum(row.count(token) for row in text)
            if wanted != len(given or []):
                raise ValueError(
                    f"The number of {token} tokens in the prompts should be the same as the number "
                    f"of {name}: text has {wanted}, {name} has {len(given or [])}. Example: "
                    f"processor(text='{token}\\nWhat happens?', {name}=['{name[:-1]}_file'])."
                )

    def _check_names(self, kwargs: dict[str, Any]) -> None:
        known = {"common_kwargs"}
        for name, kind in self.valid_processor_kwargs.__annotations__.items():
            known |= {name, *(kind.__annotations__ if is_typeddict(kind) else ())}
        known |= set(self.image_processor.valid_kwargs.__annotations__)
        check_known(kwargs, known)

    def _process_images(self, images: list[Any], **kwargs: Any) -> tuple[Any, list[str]]:
        channels = kwargs.pop("input_data_format", None)
        given = {name: value for name, value in kwargs.items() if value is not None}
        fit = given.pop("fit", self.video_processor.fit)
        kwargs.pop("fit", None)
        settings = self.image_processor
        names = ("size", "crop_size", "resample", "do_resize", "do_center_crop", "image_mean")
        options = settings._standardize_kwargs(
            **({name: getattr(settings, name) for name in names} | given), default_to_square=False
        )
        cropped = options["do_resize"] and options["do_center_crop"]
        pictures = [Image.fromarray(rgb_picture(image, channels)) for image in images]
        if cropped:
            pictures = [_sized(picture, fit, options) for picture in pictures]
            if fit != "crop":
                kwargs |= {"do_resize": False, "do_center_crop": False}  # they are of that size
        features = settings(pictures, **kwargs)
        return features, [self.replace_image_token(features, i) for i in range(len(pictures))]

    def _process_videos(self, videos: list[Any], **kwargs: Any) -> tuple[Any, list[str]]:
        features = self.video_processor.preprocess_list(videos, **kwargs)
        return features, [self.replace_video_token(features, i) for i in range(len(videos))]

    @property
    def token_layout(self) -> TokenLayout:
        """What decides the number of placeholders."""
        return TokenLayout(
            patch_size=self.patch_size,
            slow_spatial_pool=self.slow_spatial_pool,
            fast_frame_stride=self.fast_frame_stride,
            fast_temporal_pool=self.fast_temporal_pool,
            fast_spatial_pool=self.fast_spatial_pool,
            min_fast_frames=self.min_fast_frames,
            num_objects=self.num_objects,
        )

    def replace_image_token(self, image_inputs: Any, image_idx: int, **kwargs: Any) -> str:
        """The placeholders of an image, one for each of its tokens."""
        size = image_inputs["pixel_values"][image_idx].shape[-2:]
        return IMAGE_TOKEN * self.token_layout.image_tokens(*size)

    def replace_video_token(self, video_inputs: Any, video_idx: int, **kwargs: Any) -> str:
        """The placeholders of a video, one for each fast token, and times if they are written.

        Args:
            video_inputs: with `pixel_values_videos`, and `video_timestamps` for the times.
        """
        num_frames, _, *size = video_inputs["pixel_values_videos"][video_idx].shape
        times = None
        if self.write_timestamps:
            times = torch.as_tensor(video_inputs["video_timestamps"][video_idx])
        return self.token_layout.video_text(VIDEO_TOKEN, times, num_frames, *size)

    def _get_num_multimodal_tokens(
        self,
        image_sizes: list[tuple[int, int]] | None = None,
        video_sizes: list[tuple[int, int, int]] | None = None,
        **kwargs: Any,
    ) -> MultiModalData:
        """How many placeholders inputs of these sizes get; servers ask before they preprocess.

        Args:
            image_sizes: (height, width) of each image.
            video_sizes: (sampled frames, height, width) of each video.
        """

        def shape(settings: Any, height: int, width: int) -> tuple[int, int]:
            size = settings.size if settings.do_resize else None
            return output_shape(
                height, width, size, settings.crop_size if settings.do_center_crop else None
            )

        layout = self.token_layout
        images = [layout.image_tokens(*shape(self.image_processor, *s)) for s in image_sizes or []]
        videos = [
            layout.video_tokens(num_frames, *shape(self.video_processor, *sides))
            for num_frames, *sides in video_sizes or []
        ]
        return MultiModalData(
            num_image_tokens=images if image_sizes else None,
            num_image_patches=[1] * len(images) if image_sizes else None,
            num_video_tokens=videos if video_sizes else None,
        )


def _sized(picture: Image.Image, fit: Fit, options: dict[str, Any]) -> Image.Image:
    """An image resized here where all of it is to be seen, or where it is so elongated that
    resizing it as a whole would fill memory."""
    crop, resample = options["crop_size"], options["resample"]
    pixels = np.asarray(picture)
    if fit != "crop":
        fitted = resize_whole(pixels, crop, fit, options["image_mean"], resample)
    elif max(picture.size) > _ELONGATED * min(picture.size):
        fitted = resize_and_crop(pixels, options["size"], crop, resample)
    else:
        return picture
    return Image.fromarray(fitted.permute(1, 2, 0).contiguous().numpy())
