"""A tiny tokenizer, processor and model, and tiny clips, for the tests of the processor."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from slowfast_mllm import auto
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor

auto.register()

CLIP_FPS = 10
EDGE = 32
PATCH = 8
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte and the special ones of ChatML."""
    names = _SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )


def tiny_config(**fields: Any) -> SlowFastConfig:
    """4 x 4 cells a frame, pooled to 2 x 2; two frames make a fast step, never fewer than two."""
    text = {
        "model_type": "qwen2",
        "vocab_size": 261,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    vision = {
        "model_type": "slowfast_convnext",
        "image_size": EDGE,
        "depths": [1, 1],
        "hidden_sizes": [8, 16],
    }
    settings = {
        "hybrid_layers": [0],
        "fast_temporal_pool": 2,
        "min_fast_frames": 2,
        "image_token_id": 259,
        "video_token_id": 260,
    }
    return SlowFastConfig(text_config=text, vision_config=vision, **(settings | fields))


def tiny_processor(num_frames: int = 4, **settings: Any) -> SlowFastProcessor:
    """The packaged defaults for `tiny_config`."""
    return SlowFastProcessor.from_config(
        tiny_config(), tiny_tokenizer(), num_frames=num_frames, **settings
    )


def tiny_model(**fields: Any) -> SlowFastForConditionalGeneration:
    """Random weights for `tiny_config`."""
    torch.manual_seed(0)
    return SlowFastForConditionalGeneration(tiny_config(**fields)).eval()


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 (T, H, W, 3); frame i is all of grey level 10 * i."""
    levels = (np.arange(count) * 10).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def write_clip(path: Path, num_frames: int = 20, fps: int = CLIP_FPS) -> Path:
    """An mp4 of `numbered_frames`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for picture in numbered_frames(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def frame_numbers(pixels: torch.Tensor) -> list[int]:
    """Which of `numbered_frames` (T, 3, H, W) normalised pixels show."""
    levels = (pixels * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)) * 255
    return (levels.mean(dim=(1, 2, 3)) / 10).round().int().tolist()
