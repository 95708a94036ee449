"""What a question costs, on the meta device at full size: FLOPs and bytes without weights or time.

Three ways to ask the same question about the same frames are compared: Slow-Fast, all frames in
self-attention, and Slow-Fast that projects its slow keys and values again at every step, as the
official implementation does.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, Qwen2Config

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastForConditionalGeneration,
    SlowFastModel,
    SlowFastVisionConfig,
    VideoMemory,
)
from slowfast_mllm.model.slow_attention import SlowQueries
from slowfast_mllm.model.transformers_names import CACHE
from slowfast_mllm.model.video_memory import pad_rows
from slowfast_mllm.model.visual_tokens import num_fast_frames

FRAMES = (16, 32, 64, 96, 128, 256, 1536)
TEXT_TOKENS = 100  # of the prompt, as in the paper's table
_PUBLISHED = {64: (1, 4), 96: (1, 6)}  # frames -> fast_frame_stride, fast_temporal_pool


@dataclass(frozen=True)
class Cost:
    """FLOPs (a multiplication and an addition are two) of one question about `num_frames` frames.

    Attributes:
        vision: tower and projector, once per video.
        memory: slow keys and values, once per video.
        prefill: reading the prompt, with the memory made before.
        decode: one token after the prompt.
        text_only_decode: the same token by the language model alone after a prompt as long.
    """

    num_frames: int
    fast_tokens: int
    slow_tokens: int
    vision: int
    memory: int
    prefill: int
    decode: int
    text_only_decode: int
    self_attention_prefill: int
    self_attention_decode: int

    @property
    def projecting_again_decode(self) -> int:
        """One token where slow keys and values are projected anew at every step."""
        return self.decode + self.memory

    def to_dict(self) -> dict[str, int]:
        return {**asdict(self), "projecting_again_decode": self.projecting_again_decode}


def published_config(num_frames: int) -> SlowFastConfig:
    """Qwen2-7B and ConvNeXt-XXL at 576 px, with the published pooling for `num_frames`.

    Between and beyond the published 64, 96 and 128 frames, the stride of the fast frames grows so
    that 16 are left, as it does from 64 to 128.
    """
    stride, pool = _PUBLISHED.get(num_frames, (max(1, num_frames // 64), 4))
    text = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    return SlowFastConfig(
        text_config=text,
        vision_config=SlowFastVisionConfig(),
        fast_frame_stride=stride,
        fast_temporal_pool=pool,
    )


def count_costs(config: SlowFastConfig, num_frames: int) -> Cost:
    """Count on the meta device; nothing is computed.

    Args:
        config: any Slow-Fast model with a square image size.
    """
    with torch.device("meta"):
        model = SlowFastForConditionalGeneration(config).eval()
        num_fast, num_slow = _num_tokens(config, num_frames)
        frame = torch.empty(1, model.model._num_channels, config.frame_size, config.frame_size)
        width = config.text_config.hidden_size
        fast, slow = torch.empty(num_fast, width), torch.empty(num_slow, width)
        times = torch.empty(num_frames)

        # Every frame costs the same: one is counted.
        tower = _flops(lambda: _look(model.model, frame, times[:1])) * num_frames
        memory_flops = _flops(lambda: model.model.remember(fast, slow, times))
        memory = model.model.remember(fast, slow, times)
        prefill, decode = _question(model, memory, num_fast)
        _, text_only = _question(model, None, num_fast)
        all_prefill, all_decode = _question(model, None, num_slow)
    return Cost(
        num_frames=num_frames,
        fast_tokens=num_fast,
        slow_tokens=num_slow,
        vision=tower,
        memory=memory_flops,
        prefill=prefill,
        decode=decode,
        text_only_decode=text_only,
        self_attention_prefill=all_prefill,
        self_attention_decode=all_decode,
    )


def _look(model: SlowFastModel, frame: Tensor, times: Tensor) -> None:
    """All that is computed of a frame but what depends on what is found in it."""
    model.slow_maps(*model.vision_maps(frame), times)
    if model.config.object_config is not None:
        model.object_tower.predictions(model.object_tower.maps(frame))


def _num_tokens(config: SlowFastConfig, num_frames: int) -> tuple[int, int]:
    """Fast and slow tokens of a video, with a square image size."""
    vision = config.vision_config
    side = vision.image_size // vision.patch_size // config.slow_spatial_pool
    steps = num_fast_frames(
        num_frames, config.fast_frame_stride, config.fast_temporal_pool, config.min_fast_frames
    )
    objects = 0 if config.object_config is None else config.object_config.num_objects
    cells = (side // config.fast_spatial_pool) ** 2
    return steps * cells + objects, num_frames * (side**2 + objects)


def _question(
    model: SlowFastForConditionalGeneration, memory: VideoMemory | None, num_visual: int
) -> tuple[int, int]:
    """FLOPs of prefill and of the first step after it.

    Args:
        memory: what the text attends; None: the language model alone.
        num_visual: visual tokens in the sequence.
    """
    text = model.config.text_config
    length = num_visual + TEXT_TOKENS
    cache = DynamicCache()
    batch = None if memory is None else pad_rows([[memory]], memory).without_fast_tokens()

    def step(num_tokens: int, num_text: int) -> None:
        chosen = torch.empty(1, num_text, dtype=torch.long)
        hidden = model.model.language_model(
            inputs_embeds=torch.empty(1, num_tokens, text.hidden_size),
            slow_memory=batch,
            slow_queries=SlowQueries(chosen if num_text < num_tokens else None, None),
            **{CACHE: cache},
        ).last_hidden_state
        model.lm_head(hidden[:, -1:])

    prefill = _flops(lambda: step(length, TEXT_TOKENS))
    # The counter takes causal attention for full: half of both its products is never computed.
    attention = model.model.language_model.layers[0].self_attn
    width = text.num_attention_heads * attention.head_dim
    causal = 2 * length**2 * width * text.num_hidden_layers
    return prefill - causal, _flops(lambda: step(1, 1))


def _flops(work: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that one question about one video takes at its peak, beside what the libraries take.

    Attributes:
        weights: the model.
        frames: pictures as they wait for the vision tower, uint8.
        vision: pixels of one chunk of frames and the tower's largest activations for them.
        slow_tokens: while the memory is made; released afterwards.
        video_memory: fast tokens, slow keys and values; kept for later questions.
        kv_cache: of the prompt and the longest answer.
    """

    weights: int
    frames: int
    vision: int
    slow_tokens: int
    video_memory: int
    kv_cache: int

    @property
    def peak(self) -> int:
        """Encoding and answering follow each other; the weights stay."""
        encoding = self.frames + self.vision + self.slow_tokens
        return self.weights + self.video_memory + max(encoding, self.kv_cache)


# Bytes of a quantized weight with its share of the scales: of int8 and int4 (on CPUs) a scale and a
# sum for 128, of NF4 a scale for 64.
_QUANTIZED_BYTES = {"int8": 1.0 + 8 / 128, "int4": 0.5 + 8 / 128, "nf4": 0.5 + 4 / 64}


def estimate_memory(
    config: SlowFastConfig,
    num_frames: int,
    bytes_per_value: int,
    max_new_tokens: int = 256,
    quantize: str | None = None,
    weight_bytes: int | None = None,
) -> MemoryEstimate:
    """From the config alone; nothing is loaded.

    Args:
        bytes_per_value: of the dtype that the model will run in: 2 or 4.
        quantize: "int8", "int4" or "nf4", for the linear layers of the language model.
        weight_bytes: of a weight, where it is kept in fewer than it is computed with.
    """
    text, vision = config.text_config, config.vision_config
    with torch.device("meta"):
        model = SlowFastForConditionalGeneration(config)
    width, pixels = text.hidden_size, config.frame_size**2
    num_fast, num_slow = _num_tokens(config, num_frames)
    attention = model.model.language_model.layers[0].self_attn
    per_token = 2 * text.num_key_value_heads * attention.head_dim * bytes_per_value
    chunk = min(num_frames, config.vision_chunk_frames)
    kept = bytes_per_value if weight_bytes is None else weight_bytes
    weights = sum(p.numel() for p in model.parameters()) * kept
    if quantize is not None:
        saved = kept - _QUANTIZED_BYTES[quantize]
        weights -= round(saved * _num_quantized(model.model.language_model))
        if quantize != "nf4":  # on CPUs the head, too, which may have been the embedding
            was = 0 if config.tie_word_embeddings else kept
            weights += round((_QUANTIZED_BYTES[quantize] - was) * model.lm_head.weight.numel())
    return MemoryEstimate(
        weights=weights,
        frames=num_frames * pixels * 3,
        vision=chunk * (pixels * vision.num_channels * 4 + _activations(config) * bytes_per_value),
        slow_tokens=num_slow * width * bytes_per_value,
        video_memory=len(config.hybrid_layers) * num_slow * per_token
        + num_fast * width * bytes_per_value,
        kv_cache=text.num_hidden_layers * (num_fast + TEXT_TOKENS + max_new_tokens) * per_token,
    )


def _num_quantized(language_model: nn.Module) -> int:
    """Its weights in linear layers, but those that make slow keys and values."""
    return sum(
        module.weight.numel()
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and "cross_attn" not in name
    )


def _activations(config: SlowFastConfig) -> int:
    """Values that the tower holds of a frame where it holds most: around its widest MLP."""
    vision, found = config.vision_config, config.object_config
    if found is not None:
        # Its first block: input, and twice the width before and after what follows.
        return 6 * found.stem_width * (found.image_size // 4) ** 2
    if isinstance(vision, SlowFastVisionConfig):
        # Input, normed input, and four times the width before and after GELU.
        cells = (vision.image_size // 4) ** 2
        return max(10 * c * cells // 4**i for i, c in enumerate(vision.hidden_sizes))
    cells = (vision.image_size // vision.patch_size) ** 2
    widest = getattr(vision, "intermediate_size", 4 * vision.hidden_size)
    return cells * 2 * (vision.hidden_size + widest)
