"""What each family of video models wants to see: pixels, the words around them, and times.

The processors of transformers need torchvision; here are the same pictures and prompts without it,
from frames that our reader has chosen and timed. Nothing here runs a model.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers.image_processing_utils import get_size_dict
from transformers.video_utils import VideoMetadata

from slowfast_mllm.processing.pixels import affine, centre_crop, resize
from slowfast_mllm.video import Transform
from slowfast_mllm.video.picture import UNCHANGED

_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_BICUBIC, _BILINEAR, _LANCZOS = 3, 2, 1  # as Pillow numbers them


class Family:
    """Rules of one family, for one checkpoint.

    Attributes:
        num_frames: how many are looked at where nobody says.
        reads_questions: False for captioners.
        several_videos: made for more than one video in a prompt.
        part: what stands for the video in a message of the chat template.
        marker: what the template writes for it, to be replaced by `prompt`.
        settings: of the checkpoint's processor files, and `defaults` for what they leave out.
    """

    num_frames = 32
    fixed_num_frames = False
    reads_questions = True
    several_videos = False
    part: ClassVar[Mapping[str, str]] = {"type": "video"}
    defaults: ClassVar[Mapping[str, Any]] = {}
    settings_of = "video_processor"
    square_default = True  # what a size of one number means

    def __init__(self, config: Any, settings: Mapping[str, Any], tokenizer: Any) -> None:
        """
        Args:
            config: of the checkpoint.
            settings: of its processor files, as they are.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        self.settings: dict[str, Any] = {**self.defaults, **given}
        self.config = config
        self.tokenizer = tokenizer
        self.token: str = tokenizer.convert_ids_to_tokens(self.token_id)
        self.marker = self.token
        if "min_pixels" in given and "max_pixels" in given:  # as older files have it
            self.settings["size"] = {
                "shortest_edge": given["min_pixels"],
                "longest_edge": given["max_pixels"],
            }
        elif isinstance(self.settings["size"], int):
            self.settings["size"] = get_size_dict(
                self.settings["size"], default_to_square=self.square_default
            )

    @property
    def token_id(self) -> int:
        """The placeholder of one visual token."""
        return self.config.video_token_id

    def shapes(self, height: int, width: int, num_frames: int) -> list[tuple[int, int]]:
        """(rows, columns) that a picture is resized to, one after the other."""
        size = self.settings["size"]
        if size.get("shortest_edge"):
            edge = size["shortest_edge"]
            if height <= width:
                return [(edge, int(edge * width / height))]
            return [(int(edge * height / width), edge)]
        return [(size["height"], size["width"])]

    @property
    def crop(self) -> tuple[int, int] | None:
        """(rows, columns) that are cut out of the middle afterwards."""
        if not self.settings.get("do_center_crop"):
            return None
        crop = get_size_dict(self.settings["crop_size"], param_name="crop_size")
        return crop["height"], crop["width"]

    def transform(self, num_frames: int) -> Transform:
        """How a picture is fitted as it is decoded, where so many come."""

        def shape(height: int, width: int) -> tuple[int, int]:
            return self.crop or self.shapes(height, width, num_frames)[-1]

        def apply(picture: np.ndarray) -> np.ndarray:
            height, width = picture.shape[:2]
            for size in self.shapes(height, width, num_frames):
                pixels = resize(np.ascontiguousarray(picture), size, self.settings["resample"])
                picture = pixels.permute(1, 2, 0).numpy()
            if self.crop:
                picture = centre_crop(pixels, *self.crop).permute(1, 2, 0).numpy()
            return picture

        return Transform(shape, apply)

    def pixels(self, frames: np.ndarray) -> Tensor:
        """float32 (T, 3, h, w), normalised, of uint8 (T, h, w, 3)."""
        mean, std = self.settings["image_mean"], self.settings["image_std"]
        factor, offset = affine(1 / 255, mean, std)
        return torch.from_numpy(frames).permute(0, 3, 1, 2) * factor - offset

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        """Arguments of the model for one video.

        Args:
            pixels: as `pixels` gives them.
            times: seconds of each frame.
        """
        return {"pixel_values_videos": pixels[None]}

    def joined(self, videos: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Arguments of the model for several videos, from those for each."""
        return {name: torch.cat([one[name] for one in videos]) for name in videos[0]}

    def parts(self, videos: int) -> list[dict[str, str]]:
        """What stands for so many videos in a message; from two on they are numbered."""
        if videos == 1:
            return [dict(self.part)]
        found: list[dict[str, str]] = []
        for number in range(1, videos + 1):
            if "text" in self.part:  # in one piece with its number: templates trim pieces
                found.append({"type": "text", "text": f"Video {number}: {self.part['text']}\n"})
            else:
                found += [{"type": "text", "text": f"Video {number}: "}, dict(self.part)]
        return found

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        """What stands for the video in the prompt."""
        raise NotImplementedError

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        """Further arguments of the model that tell visual tokens from words; ids (B, L)."""
        return {}


def _interval(times: Sequence[float]) -> float:
    """Seconds between frames, on average; 1 for a picture."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0


class LlavaNextVideo(Family):
    """A quarter of the tower's patches for each frame."""

    square_default = False
    defaults = {
        **_CLIP,
        "size": {"shortest_edge": 336},
        "crop_size": {"height": 336, "width": 336},
        "do_center_crop": True,
        "resample": _BICUBIC,
    }

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        height, width = inputs["pixel_values_videos"].shape[-2:]
        patch = self.config.vision_config.patch_size
        return self.token * ((height // patch) * (width // patch) // 4 * len(times))


class LlavaOnevision(Family):
    """The tower's patches of each frame, halved in rows and columns, and a line's end."""

    defaults = {**_CLIP, "size": {"height": 384, "width": 384}, "resample": _BICUBIC}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        vision = self.config.vision_config
        side = math.ceil(vision.image_size // vision.patch_size / 2)
        return self.token * (len(times) * side * side + 1)


class Qwen2VL(Family):
    """Frames of their own size, in patches of two frames each."""

    several_videos = True
    defaults = {
        **_CLIP,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "resample": _BICUBIC,
        "max_video_tokens": 128_000,
    }

    def shapes(self, height: int, width: int, num_frames: int) -> list[tuple[int, int]]:
        fewest, most = self._pixels(num_frames)
        rows, columns = self._whole(height, width)
        if rows * columns > most:
            return [self._shrunk(height, width, math.sqrt(height * width / most))]
        if rows * columns < fewest:
            return [self._grown(height, width, math.sqrt(fewest / (height * width)))]
        return [(rows, columns)]

    def _pixels(self, num_frames: int) -> tuple[int, int]:
        """Fewest and most of a frame. The more frames, the fewer of each, as the family's own code
        has it (transformers: `cap_pixels_per_frame`)."""
        size, together = self.settings["size"], self.settings["temporal_patch_size"]
        budget = int(self.settings["max_video_tokens"] * self._factor**2 * 0.9)
        share = budget * together // num_frames
        return size["shortest_edge"], max(
            min(size["longest_edge"], share), int(size["shortest_edge"] * 1.05)
        )

    @property
    def _factor(self) -> int:
        """Pixels of a side of what becomes one token."""
        return self.settings["patch_size"] * self.settings["merge_size"]

    def _whole(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the nearest whole number of tokens."""
        if max(height, width) > 200 * min(height, width):
            raise ValueError(
                f"pictures of {width}x{height} are too narrow for this model; crop them first."
            )
        factor = self._factor
        return round(height / factor) * factor, round(width / factor) * factor

    # In the order of the family's own arithmetic: another rounds otherwise now and then.

    def _shrunk(self, height: int, width: int, by: float) -> tuple[int, int]:
        factor = self._factor
        return (
            max(factor, math.floor(height / by / factor) * factor),
            max(factor, math.floor(width / by / factor) * factor),
        )

    def _grown(self, height: int, width: int, by: float) -> tuple[int, int]:
        factor = self._factor
        return math.ceil(height * by / factor) * factor, math.ceil(width * by / factor) * factor

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        patch, merge = self.settings["patch_size"], self.settings["merge_size"]
        together = self.settings["temporal_patch_size"]
        missing = -len(pixels) % together
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        grid = (len(pixels) // together, pixels.shape[2] // patch, pixels.shape[3] // patch)
        # Tokens of `merge` x `merge` patches, row by row; in a patch: colour, frame, row, column.
        split = pixels.view(
            grid[0], together, 3, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch
        )
        patches = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1)
        return {"pixel_values_videos": patches, "video_grid_thw": torch.tensor([grid])}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        tokens = int(inputs["video_grid_thw"].prod()) // self.settings["merge_size"] ** 2
        return self.token * tokens

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        return {"mm_token_type_ids": (ids == self.token_id).long() * 2}


class Qwen25VL(Qwen2VL):
    """Knows how many seconds lie between the pairs of frames."""

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        seconds = self.settings["temporal_patch_size"] * _interval(times)
        return {**super().inputs(pixels, times), "second_per_grid_ts": torch.tensor([seconds])}


class Qwen3VL(Qwen2VL):
    """Says the time before each pair of frames, and has a budget of pixels for all of them."""

    defaults = {
        **_HALF,
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "resample": _BICUBIC,
        "max_video_tokens": 768,
    }

    def _pixels(self, num_frames: int) -> tuple[int, int]:
        """Of all frames together."""
        size = self.settings["size"]
        largest = self.settings["max_video_tokens"] * self._factor**2
        each = max(
            min(largest, size["longest_edge"] // num_frames), int(size["shortest_edge"] * 1.05)
        )
        return size["shortest_edge"], each * num_frames

    def shapes(self, height: int, width: int, num_frames: int) -> list[tuple[int, int]]:
        num_frames = max(num_frames, self.settings["temporal_patch_size"])
        fewest, most = self._pixels(num_frames)
        even = round(num_frames / 2) * 2  # the family counts whole pairs here, and frames below
        if min(height, width) < self._factor:
            grow = max(self._factor / height, self._factor / width)
            height, width = int(height * grow), int(width * grow)
        rows, columns = self._whole(height, width)
        all_pixels = num_frames * height * width
        if even * rows * columns > most:
            return [self._shrunk(height, width, math.sqrt(all_pixels / most))]
        if even * rows * columns < fewest:
            return [self._grown(height, width, math.sqrt(fewest / all_pixels))]
        return [(rows, columns)]

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        pairs, rows, columns = inputs["video_grid_thw"][0].tolist()
        tokens = rows * columns // self.settings["merge_size"] ** 2
        begin, end = (
            self.tokenizer.convert_ids_to_tokens(token)
            for token in (self.config.vision_start_token_id, self.config.vision_end_token_id)
        )
        together = self.settings["temporal_patch_size"]
        padded = [*times, *times[-1:] * (pairs * together - len(times))]
        groups = [padded[i : i + together] for i in range(0, len(padded), together)]
        return "".join(
            f"<{(group[0] + group[-1]) / 2:.1f} seconds>{begin}{self.token * tokens}{end}"
            for group in groups
        )


class SmolVLM(Family):
    """Square frames, each after its time in minutes and seconds."""

    several_videos = True
    # The template of the checkpoints knows no videos: what is written is an ordinary text part.
    part = {"type": "text", "text": "<video>"}
    num_frames = 64
    defaults = {
        **_HALF,
        "size": {"longest_edge": 512},
        "max_image_size": {"longest_edge": 512},
        "resample": _LANCZOS,
    }

    def __init__(self, config: Any, settings: Mapping[str, Any], tokenizer: Any) -> None:
        super().__init__(config, settings, tokenizer)
        self.marker = self.part["text"]
        if "video_sampling" in settings:
            self.settings["size"] = settings["video_sampling"]["video_size"]
            self.num_frames = settings["video_sampling"]["max_frames"]

    @property
    def token_id(self) -> int:
        return self.config.image_token_id

    def shapes(self, height: int, width: int, num_frames: int) -> list[tuple[int, int]]:
        edge, side = (self.settings[name]["longest_edge"] for name in ("size", "max_image_size"))
        scale = edge / max(height, width)
        other = int(min(height, width) * scale)
        other = max(1, other + other % 2)
        first = (other, edge) if width >= height else (edge, other)
        return [first, (side, side)]

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        return {"pixel_values": pixels[None]}

    def joined(self, videos: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {"pixel_values": torch.cat([one["pixel_values"] for one in videos], 1)}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        vision = self.config.vision_config
        tokens = (vision.image_size // vision.patch_size // self.config.scale_factor) ** 2
        frame = (
            f"<fake_token_around_image><global-img>{self.token * tokens}<fake_token_around_image>"
        )
        whole = int(duration)
        clock = f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
        frames = "".join(
            f"\nFrame from {int(time // 60):02d}:{int(time % 60):02d}:{frame}" for time in times
        )
        count = number_words(len(times))
        return (
            f"You are provided the following series of {count} frames from a {clock} [H:MM:SS] "
            f"video.\n{frames}\n\n"
        )


class InternVL(Family):
    """Square frames, counted."""

    several_videos = True
    defaults = {**_CLIP, "size": {"height": 384, "width": 384}, "resample": _BICUBIC}

    def __init__(self, config: Any, settings: Mapping[str, Any], tokenizer: Any) -> None:
        super().__init__(config, settings, tokenizer)
        self.marker = tokenizer.video_token

    @property
    def token_id(self) -> int:
        return self.config.image_token_id

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        return {"pixel_values": pixels}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        tokens = self.token * self.config.image_seq_length
        begin, end = self.tokenizer.start_image_token, self.tokenizer.end_image_token
        return "\n".join(f"Frame{i + 1}: {begin}{tokens}{end}" for i in range(len(times)))


class Gemma3(Family):
    """Single pictures, each after its time: the family knows no videos."""

    several_videos = True
    part = {"type": "text", "text": "<video>"}
    num_frames = 16
    settings_of = "image_processor"
    defaults = {**_HALF, "size": {"height": 896, "width": 896}, "resample": _BILINEAR}

    def __init__(self, config: Any, settings: Mapping[str, Any], tokenizer: Any) -> None:
        super().__init__(config, settings, tokenizer)
        self.marker = self.part["text"]

    @property
    def token_id(self) -> int:
        return self.config.image_token_id

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        return {"pixel_values": pixels}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        begin, end = (
            self.tokenizer.convert_ids_to_tokens(token)
            for token in (self.config.boi_token_index, self.config.eoi_token_index)
        )
        frame = f"\n\n{begin}{self.token * self.config.mm_tokens_per_image}{end}\n\n"
        return "".join(f"Frame at {time:.2f} seconds:{frame}" for time in times)

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        return {"token_type_ids": (ids == self.token_id).long()}


class Captioner(Family):
    """A vision encoder and a decoder that says what it sees: no prompt, so many frames."""

    fixed_num_frames = True
    reads_questions = False
    square_default = False
    defaults = {
        **_IMAGENET,
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": _BILINEAR,
    }

    def __init__(self, config: Any, settings: Mapping[str, Any], tokenizer: Any) -> None:
        super().__init__(config, settings, tokenizer)
        self.num_frames = config.encoder.num_frames

    @property
    def token_id(self) -> int:
        return self.config.decoder_start_token_id

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        return {"pixel_values": pixels[None]}

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        return ""


class OwnProcessor(Family):
    """Any other family, by its own processor of transformers, which needs torchvision."""

    def __init__(self, config: Any, processor: Any) -> None:
        self.config = config
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.chat_template = processor.chat_template
        self.marker = processor.video_token

    def transform(self, num_frames: int) -> Transform:
        return UNCHANGED

    def pixels(self, frames: np.ndarray) -> Tensor:
        """uint8 (T, 3, H, W)."""
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def inputs(self, pixels: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        given = self.processor.video_processor(
            [pixels],
            video_metadata=[_metadata(times, times[-1])],
            do_sample_frames=False,
            return_tensors="pt",
        )
        return dict(given)

    def prompt(self, inputs: dict[str, Tensor], times: Sequence[float], duration: float) -> str:
        known = {**inputs, "video_metadata": [_metadata(times, duration)]}
        words: str = self.processor.replace_video_token(known, 0)
        return words

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        if not self.processor.return_mm_token_type_ids:
            return {}
        types = self.processor.create_mm_token_type_ids(ids.tolist())
        return {"mm_token_type_ids": torch.tensor(types, device=ids.device)}


def _metadata(times: Sequence[float], duration: float) -> VideoMetadata:
    """In which a frame lasts a second: what is computed of it are the real times."""
    return VideoMetadata(
        total_num_frames=len(times) * _interval(times),
        fps=1.0,
        duration=duration,
        frames_indices=list(times),
    )


FAMILIES: Mapping[str, type[Family]] = {
    "llava_next_video": LlavaNextVideo,
    "llava_onevision": LlavaOnevision,
    "qwen2_vl": Qwen2VL,
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
    "qwen3_vl_moe": Qwen3VL,
    "smolvlm": SmolVLM,
    "internvl": InternVL,
    "gemma3": Gemma3,
    "vision-encoder-decoder": Captioner,
}

# fmt: off
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
         "nineteen"]
# fmt: on
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def number_words(count: int) -> str:
    """A number below 1000 in words, as SmolVLM was taught to read it: "sixty-four"."""
    if count < 20:
        return _ONES[count]
    if count < 100:
        tens = _TENS[count // 10 - 2]
        return f"{tens}-{_ONES[count % 10]}" if count % 10 else tens
    hundreds = f"{_ONES[count // 100]} hundred"
    return f"{hundreds} and {number_words(count % 100)}" if count % 100 else hundreds
