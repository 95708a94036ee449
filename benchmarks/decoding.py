"""What the slow path adds to prefill and to each generated token, in one run.

A random model with the dimensions of Qwen2-0.5B and three hybrid layers reads 1,296 fast tokens and
100 text tokens, then writes. Three ways, in turn, step by step, so that what else the machine does
hits all alike: the language model alone on the same tokens (the baseline), Slow-Fast, and, where
the CPU multiplies int8, Slow-Fast with slow keys and values in int8; beside the last stands how far
its logits are from those of Slow-Fast (norm of the difference by that of the latter). After
them, because it leaves the machine slower for whoever comes next, and for a third as many steps:
Slow-Fast that projects slow keys and values again at every step, as the official implementation
does. Times are medians; compare ratios.

    python benchmarks/decoding.py [--frames 64 1536] [--steps 24] [--dtype float32] [--compile]

The dtype is bfloat16 where the CPU is fast at it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import Qwen2Config, StaticCache
from transformers.initialization import no_init_weights

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastForConditionalGeneration,
    SlowFastVisionConfig,
    VideoMemory,
)
from slowfast_mllm.model.hardware import bfloat16_is_fast, int8_is_fast
from slowfast_mllm.model.video_memory import TEXT, VIDEO, MemoryBatch, pad_rows

FAST, TEXT_TOKENS, SLOW_PER_FRAME = 1296, 100, 81
ALONE, AGAIN = "language model alone", "projecting again"
WIDE, NARROW = "Slow-Fast", "Slow-Fast, int8 slow tokens"


TINY_TOWER = SlowFastVisionConfig(image_size=64, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8])


def make_model(
    hybrid_layers: list[int], dtype: torch.dtype, vision: SlowFastVisionConfig = TINY_TOWER
) -> SlowFastForConditionalGeneration:
    """Random weights; the same ones wherever two models have the same layer."""
    text = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    config = SlowFastConfig(
        text_config=text,
        vision_config=vision,
        hybrid_layers=hybrid_layers,
        tie_word_embeddings=True,
    )
    with no_init_weights():
        model = SlowFastForConditionalGeneration(config)
    model.tie_weights()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            torch.manual_seed(sum(name.encode()))
            if weight.ndim > 1:
                weight.uniform_(-0.03, 0.03)
            elif "norm" in name:  # those of torch would be left as memory was
                weight.fill_(name.endswith("weight"))
            else:  # biases, and gates that are open
                weight.fill_(0.5)
    return model.to(dtype).eval()


@dataclass
class Conversation:
    """One of the ways: its prefill, then any number of steps."""

    model: SlowFastForConditionalGeneration
    run: Callable[..., torch.nn.Module]
    remember: Callable[[], VideoMemory]
    again: bool
    room: int

    def __post_init__(self) -> None:
        self.memory = self.batch()

    def batch(self) -> MemoryBatch:
        memory = self.remember()
        return pad_rows([[memory]], memory)

    @torch.no_grad()
    def prefill(self, ids: Tensor, types: Tensor) -> None:
        self.cache = StaticCache(config=self.model.config.text_config, max_cache_len=self.room)
        output = self.model(
            input_ids=ids,
            mm_token_type_ids=types,
            attention_mask=torch.ones_like(ids),
            video_memory=self.memory,
            cache=self.cache,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()
        self.length = ids.shape[1]
        self.last = output.logits[:, -1:].argmax(-1)

    @torch.no_grad()
    def step(self) -> None:
        memory = self.batch() if self.again else self.memory
        output = self.run(
            input_ids=self.last,
            position_ids=torch.tensor([[self.length]]),
            video_memory=memory.without_fast_tokens(),
            cache=self.cache,
        )
        self.length += 1
        self.last = output.logits[:, -1:].argmax(-1)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.no_grad()
def measure(
    plain: SlowFastForConditionalGeneration,
    hybrid: SlowFastForConditionalGeneration,
    num_frames: int,
    arguments: argparse.Namespace,
) -> list[str]:
    fast = torch.randn(FAST, 896, dtype=plain.dtype)
    slow = torch.randn(num_frames * SLOW_PER_FRAME, 896, dtype=plain.dtype)
    times = torch.arange(num_frames)
    ways = {ALONE: plain, WIDE: hybrid, NARROW: hybrid, AGAIN: hybrid}
    if not int8_is_fast() or arguments.compile:
        del ways[NARROW]
    room = -(-(FAST + TEXT_TOKENS + arguments.steps + 8) // 256) * 256
    compiled = {
        model: torch.compile(model) if arguments.compile else model for model in (plain, hybrid)
    }

    def remember(name: str) -> VideoMemory:
        memory = ways[name].model.remember(fast, slow, times)
        return memory.narrowed() if name == NARROW else memory

    talks = {
        name: Conversation(model, compiled[model], partial(remember, name), name == AGAIN, room)
        for name, model in ways.items()
    }
    ids = torch.randint(0, 1000, (1, FAST + TEXT_TOKENS))
    types = torch.tensor([[VIDEO] * FAST + [TEXT] * TEXT_TOKENS])
    prefills: dict[str, list[float]] = {name: [] for name in talks}
    tokens: dict[str, list[float]] = {name: [] for name in talks}
    for names in ([name for name in ways if name != AGAIN], [AGAIN]):
        for warm in [True] + [False] * arguments.prefills:
            for name in names:
                took = timed(lambda talk=talks[name]: talk.prefill(ids, types))
                if not warm:
                    prefills[name].append(took)
        steps = -(-arguments.steps // 3) if names == [AGAIN] else arguments.steps
        for warm in [True] * 3 + [False] * steps:
            for name in names:
                took = timed(talks[name].step)
                if not warm:
                    tokens[name].append(took)
    return table(num_frames, talks, prefills, tokens)


def table(
    num_frames: int,
    talks: dict[str, Conversation],
    prefills: dict[str, list[float]],
    tokens: dict[str, list[float]],
) -> list[str]:
    """A row for each way."""
    expected = talks[WIDE].logits
    base = statistics.median(prefills[ALONE])
    base_token = statistics.median(tokens[ALONE])
    rows = []
    for name in talks:
        prefill, token = statistics.median(prefills[name]), statistics.median(tokens[name])
        error = (talks[name].logits - expected).norm() / expected.norm()
        rows.append(
            f"| {num_frames} | {name} | {prefill:.2f} | {prefill / base:.3f} | "
            f"{1 / token:.2f} | {token / base_token:.3f} | "
            f"{f'{error:.4f}' if name == NARROW else ''} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 1536])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--prefills", type=int, default=3)
    usual = "bfloat16" if bfloat16_is_fast("cpu") else "float32"
    parser.add_argument("--dtype", default=usual, choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="compile the steps")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    how = f"{arguments.dtype}{', compiled steps' if arguments.compile else ''}"
    print(f"Qwen2-0.5B dimensions, {how}, {torch.get_num_threads()} threads\n")
    print("| frames | way | prefill s | ratio | tokens/s | time per token, ratio | logit error |")
    print("|---|---|---|---|---|---|---|")
    plain, hybrid = make_model([], dtype), make_model([0, 8, 16], dtype)
    for num_frames in arguments.frames:
        for row in measure(plain, hybrid, num_frames, arguments):
            print(row, flush=True)


if __name__ == "__main__":
    main()
