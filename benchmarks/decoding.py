"""What the slow path adds to prefill and to each generated token, in one run.

A random model with the dimensions of Qwen2-0.5B and three hybrid layers reads 1,296 fast tokens and
100 text tokens, then writes. Three ways, in turn, step by step, so that what else the machine does
hits all alike: the language model alone on the same tokens (the baseline), Slow-Fast, and Slow-Fast
that projects slow keys and values again at every step, as the official implementation does.
Times are medians; compare ratios.

    python benchmarks/decoding.py [--frames 64 1536] [--steps 24] [--dtype bfloat16] [--compile]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2Config

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastForConditionalGeneration,
    SlowFastVisionConfig,
    VideoMemory,
)
from slowfast_mllm.model.video_memory import TEXT, VIDEO

FAST, TEXT_TOKENS, SLOW_PER_FRAME = 1296, 100, 81
PREFILLS = 5


def make_model(hybrid_layers: list[int], dtype: torch.dtype) -> SlowFastForConditionalGeneration:
    """Random weights; the same ones wherever both models have a layer."""
    torch.manual_seed(0)
    text = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    vision = SlowFastVisionConfig(image_size=64, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8])
    config = SlowFastConfig(
        text_config=text,
        vision_config=vision,
        hybrid_layers=hybrid_layers,
        tie_word_embeddings=True,
    )
    model = SlowFastForConditionalGeneration(config)
    for layer in hybrid_layers:
        model.model.language_model.layers[layer].self_attn.cross_attn.gate.scale.data.fill_(0.5)
    return model.to(dtype).eval()


class Conversation:
    """One of the three ways: its prefill, then any number of steps."""

    def __init__(
        self,
        model: SlowFastForConditionalGeneration,
        remember: Callable[[], VideoMemory],
        again: bool,
    ) -> None:
        self.model = model
        self.remember = remember
        self.memory = remember()
        self.again = again

    def prefill(self, ids: Tensor, types: Tensor) -> None:
        self.cache = DynamicCache()
        output = self.model(
            input_ids=ids,
            mm_token_type_ids=types,
            attention_mask=torch.ones_like(ids),
            video_memory=self.memory,
            past_key_values=self.cache,
            logits_to_keep=1,
        )
        self.last = output.logits[:, -1:].argmax(-1)

    def step(self) -> None:
        memory = self.remember() if self.again else self.memory
        length = self.cache.get_seq_length()
        batch = self.model.model.remember_all(self.types(length), video_memory=memory)
        assert batch is not None
        output = self.model(
            input_ids=self.last,
            attention_mask=torch.ones(1, length + 1, dtype=torch.long),
            video_memory=batch.without_fast_tokens(),
            past_key_values=self.cache,
        )
        self.last = output.logits[:, -1:].argmax(-1)

    @staticmethod
    def types(length: int) -> Tensor:
        return torch.tensor([[VIDEO] * FAST + [TEXT] * (length - FAST)])


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.no_grad()
def measure(num_frames: int, steps: int, dtype: torch.dtype, compiled: bool) -> list[str]:
    plain, hybrid = make_model([], dtype), make_model([0, 8, 16], dtype)
    fast = torch.randn(FAST, 896, dtype=dtype)
    slow = torch.randn(num_frames * SLOW_PER_FRAME, 896, dtype=dtype)
    times = torch.arange(num_frames)
    ways = {
        "language model alone": (plain, False),
        "Slow-Fast": (hybrid, False),
        "projecting again": (hybrid, True),
    }
    if compiled:
        for model in (plain, hybrid):
            model.forward = torch.compile(model.forward, dynamic=True)  # type: ignore[method-assign]
    talks = {
        name: Conversation(model, lambda m=model: m.model.remember(fast, slow, times), again)
        for name, (model, again) in ways.items()
    }
    ids = torch.randint(0, 1000, (1, FAST + TEXT_TOKENS))
    types = Conversation.types(FAST + TEXT_TOKENS)
    prefills: dict[str, list[float]] = {name: [] for name in talks}
    tokens: dict[str, list[float]] = {name: [] for name in talks}
    for _ in range(PREFILLS):
        for name, talk in talks.items():
            prefills[name].append(timed(lambda talk=talk: talk.prefill(ids, types)))
    for _ in range(steps):
        for name, talk in talks.items():
            tokens[name].append(timed(talk.step))
    rows = []
    base = statistics.median(prefills["language model alone"])
    base_token = statistics.median(tokens["language model alone"])
    for name in talks:
        prefill, token = statistics.median(prefills[name]), statistics.median(tokens[name])
        rows.append(
            f"| {num_frames} | {name} | {prefill:.2f} | {prefill / base:.3f} | "
            f"{1 / token:.2f} | {token / base_token:.3f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 1536])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="compile the forward pass")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    print(f"Qwen2-0.5B dimensions, {arguments.dtype}, {torch.get_num_threads()} threads\n")
    print("| frames | way | prefill s | ratio | tokens/s | time per token, ratio |")
    print("|---|---|---|---|---|---|")
    for num_frames in arguments.frames:
        for row in measure(num_frames, arguments.steps, dtype, arguments.compile):
            print(row, flush=True)


if __name__ == "__main__":
    main()
