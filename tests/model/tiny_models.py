"""Tiny random Slow-Fast models and prompts for them: any text family, any vision tower.

The gates are open and every weight is large enough to matter, so that a test which compares two
paths would notice if the slow tokens took part in one of them only.
"""

import torch
from torch import Tensor

from slowfast_mllm import auto
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration

auto.register()

IMAGE_TOKEN, VIDEO_TOKEN, PAD, VOCAB = 1000, 1001, 0, 99  # placeholders outside the table
TOKENS_PER_FRAME = 4  # 32 pixels -> 4 x 4 cells -> pooled 2 x 2
TOKENS_PER_IMAGE = 16

_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": PAD,
    "tie_word_embeddings": False,
}
_CONVNEXT = {
    "model_type": "slowfast_convnext",
    "image_size": 32,
    "depths": [1, 1],
    "hidden_sizes": [8, 16],
    "layer_scale_init": 1.0,
}


def tiny_config(
    family: str = "qwen2",
    *,
    text: dict | None = None,
    vision: dict | None = None,
    **fields: object,
) -> SlowFastConfig:
    """A configuration with a text model of `family`; `text` and `vision` override its parts."""
    settings = {
        "hybrid_layers": [0, 2],
        "fast_temporal_pool": 2,
        "min_fast_frames": 2,
        "image_token_id": IMAGE_TOKEN,
        "video_token_id": VIDEO_TOKEN,
        **fields,
    }
    vision = vision or {}
    return SlowFastConfig(
        text_config={"model_type": family, **_TEXT, **(text or {})},
        vision_config=vision if "model_type" in vision else _CONVNEXT | vision,
        **settings,
    )


def open_gates(model: torch.nn.Module, seed: int = 0) -> None:
    """Move every weight by noise, so that no part of the model is silent; gates become nonzero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=generator))
            if name.endswith("gate.scale"):
                weight.add_(1.0)


def tiny_model(family: str = "qwen2", **settings: object) -> SlowFastForConditionalGeneration:
    """A seeded model in eval mode with open gates; arguments as for `tiny_config`."""
    torch.manual_seed(0)
    model = SlowFastForConditionalGeneration(tiny_config(family, **settings)).eval()
    open_gates(model)
    return model


def video(num_frames: int = 6, seed: int = 0, size: int = 32) -> Tensor:
    """(T, 3, H, W) of noise, another one for each seed."""
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(num_frames, 3, size, size, generator=generator)


def image(seed: int = 0) -> Tensor:
    """(3, H, W) of noise."""
    return video(1, seed=500 + seed)[0]


def slot(num_frames: int) -> list[int]:
    """The placeholders of a video of that many frames."""
    fast_frames = max(num_frames // 2, min(num_frames, 2))
    return [VIDEO_TOKEN] * (fast_frames * TOKENS_PER_FRAME)


IMAGE_SLOT = [IMAGE_TOKEN] * TOKENS_PER_IMAGE


def pad(rows: list[list[int]], side: str = "left") -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` of prompts of different length."""
    length = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = length - len(row)
        before, after = (fill, 0) if side == "left" else (0, fill)
        ids.append([PAD] * before + row + [PAD] * after)
        mask.append([0] * before + [1] * len(row) + [0] * after)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def one_video_prompt(num_frames: int = 6, question: tuple[int, ...] = (7, 8, 9)) -> list[int]:
    """System text, one video, a question."""
    return [3, 4, *slot(num_frames), *question]


def greedy(
    model: SlowFastForConditionalGeneration, new_tokens: int = 8, **inputs: object
) -> Tensor:
    """The tokens that greedy `generate` adds to the prompts."""
    prompt = inputs["input_ids"]
    options = {"do_sample": False, "pad_token_id": PAD, "max_new_tokens": new_tokens}
    return model.generate(**options, **inputs)[:, prompt.shape[1] :]


def assert_close(actual: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    """Equal but for float32 rounding; says how far apart they are."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-4)
