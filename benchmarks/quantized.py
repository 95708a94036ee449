"""What quantized weights save and what they cost, on three models, in one run.

The packaged model about clips of the procedural world, a tiny one of random weights in the official
layout (the golden data of the tests), and a random one with the dimensions of Qwen2-0.5B. The
baseline is float32: every other kind of weights sees the same video memory and the same tokens, its
own greedy ones. "Same tokens" is the share at which it would have chosen the same next token,
"logit error" the relative distance (L2) of its logits there. With random weights all tokens are
about equally likely, so that the same error changes more of them than in a trained model.
"Perplexity" is that of the true answers about the clips.

    python benchmarks/quantized.py [--clips 24] [--tokens 16]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from decoding import make_model
from torch import Tensor
from transformers import AutoModelForImageTextToText, set_seed
from transformers.utils import logging
from vision_tower import best

from slowfast_mini import world
from slowfast_mllm import VideoMemory, load
from slowfast_mllm.engine.loading import computes_wide, quantization_config
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.cpu_linear import NarrowLinear
from slowfast_mllm.model.cpu_quantizer import narrow_model
from slowfast_mllm.model.wide_compute import compute_in_float32

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "model" / "golden" / "s1t4"
PACKAGED = ROOT / "src" / "slowfast_mini" / "weights"
Prompts = Callable[[], Iterator["Case"]]
KINDS = ("float32", "bfloat16", "int8", "int4", "nf4")


@dataclass
class Case:
    """A prompt (1, L) about a video, the true answer (1, M), and the prompt as a float32 model goes
    on: (1, L + N).
    """

    prompt: Tensor
    memory: VideoMemory
    truth: Tensor | None = None
    tokens: Tensor = field(default_factory=Tensor)


def load_kind(folder: Path, kind: str) -> SlowFastForConditionalGeneration:
    options: dict[str, Any] = {"dtype": torch.bfloat16 if kind == "bfloat16" else torch.float32}
    if kind == "nf4":
        options["quantization_config"] = quantization_config(kind)
    model = AutoModelForImageTextToText.from_pretrained(folder, **options).eval()
    if kind in ("int8", "int4"):
        narrow_model(model, int(kind[3:]))
    if kind == "bfloat16" and computes_wide(torch.device("cpu")):  # as `load` has it
        compute_in_float32(model)
    return model


def world_prompts(clips: int) -> Iterator[Case]:
    """One question about each of `clips` unseen clips, in the words of the chat template."""
    assistant = load(PACKAGED, dtype="float32")
    for seed in range(clips):
        clip = world.sample_clip(seed, 32, assistant.model.config.vision_config.image_size)
        seen = assistant.encode(clip.frames)
        asked = clip.questions[seed % len(clip.questions)]
        message = assistant.user_message(asked.question, first=True)
        truth = assistant.processor.tokenizer(asked.answer, return_tensors="pt").input_ids
        yield Case(assistant.prompt_ids([message], seen), seen.memory, truth)


def random_prompt(folder: Path, slow: int) -> Prompts:
    """A prompt of random words about random tokens."""

    def prompts() -> Iterator[Case]:
        model = load_kind(folder, "float32")
        text = model.config.text_config
        set_seed(0)
        tokens = torch.randn(slow, text.hidden_size) * model.get_input_embeddings().weight.std()
        memory = model.model.remember(tokens[:64], tokens, torch.arange(4))
        words = torch.randint(10, 60, (1, 32))
        placeholders = torch.full((1, 64), model.config.video_token_id)
        yield Case(torch.cat([words[:, :4], placeholders, words[:, 4:]], 1), memory)

    return prompts


def generate(model: SlowFastForConditionalGeneration, case: Case, tokens: int) -> Tensor:
    return model.generate(
        case.prompt,
        attention_mask=torch.ones_like(case.prompt),
        video_memory=case.memory.to(model.dtype),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )


def per_token(model: SlowFastForConditionalGeneration, case: Case, tokens: int) -> float:
    """Seconds, without the prompt's; best of three."""

    def took(count: int) -> float:
        began = time.perf_counter()
        generate(model, case, count)
        return time.perf_counter() - began

    took(2)
    return min(took(tokens + 1) - took(1) for _ in range(3)) / tokens


def per_prompt(model: SlowFastForConditionalGeneration) -> float:
    """Seconds for a prompt of 1,346 tokens, in the language model alone; best of three."""
    return best(lambda: model(input_ids=torch.full((1, 1346), 12), logits_to_keep=1), 3)


def per_batch(model: SlowFastForConditionalGeneration) -> float:
    """Seconds for a step of eight rows that have 64 tokens behind them; best of three."""
    past = model(input_ids=torch.full((8, 64), 12), use_cache=True, logits_to_keep=1)

    def step() -> None:
        model(
            input_ids=torch.full((8, 1), 12), past_key_values=past.past_key_values, use_cache=True
        )

    return best(step, 3)


def perplexity(model: SlowFastForConditionalGeneration, cases: Sequence[Case]) -> str:
    """Of the tokens of the true answers."""
    lost: list[Tensor] = []
    for case in cases:
        if case.truth is not None:
            logits = model(
                input_ids=torch.cat([case.prompt, case.truth], 1),
                video_memory=case.memory.to(model.dtype),
                logits_to_keep=case.truth.shape[1] + 1,
            ).logits[0, :-1]
            lost.append(
                torch.nn.functional.cross_entropy(logits.float(), case.truth[0], reduction="none")
            )
    return f"{torch.cat(lost).mean().exp():.4f}" if lost else "–"


def measure(
    name: str, folder: Path, prompts: Prompts, tokens: int, kinds: Sequence[str] = KINDS
) -> None:
    cases: list[Case] = []
    expected: list[Tensor] = []
    base: tuple[float, float, float] | None = None
    for kind in kinds:
        model = load_kind(folder, kind)
        if not cases:
            cases = list(prompts())
            for case in cases:
                case.tokens = generate(model, case, tokens)
        same, error, size = 0, 0.0, 0.0
        for number, case in enumerate(cases):
            logits = (
                model(
                    input_ids=case.tokens[:, :-1],
                    video_memory=case.memory.to(model.dtype),
                    logits_to_keep=tokens,
                )
                .logits[0]
                .float()
            )
            if len(expected) == number:
                expected.append(logits)
            same += int((logits.argmax(-1) == expected[number].argmax(-1)).sum())
            error += float((logits - expected[number]).square().sum())
            size += float(expected[number].square().sum())
        took = per_token(model, cases[0], tokens), per_prompt(model), per_batch(model)
        base = base or took
        decoder = model.model.language_model.layers
        layers = sum(p.nbytes for p in decoder.parameters())
        layers += sum(m.nbytes for m in decoder.modules() if isinstance(m, NarrowLinear))
        print(
            f"| {name} | {kind} | {layers / 1e6:.1f} | {1 / took[0]:.1f} | "
            + "".join(f"{was / now:.2f} | " for was, now in zip(base, took, strict=True))
            + f"{same / len(cases) / tokens:.1%} | {(error / size) ** 0.5:.4f} | "
            + f"{perplexity(model, cases)} |",
            flush=True,
        )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(
        "| model | weights | layers, MB | tokens/s | decoding | prompt of 1,346 "
        "| 8 rows | same tokens | logit error | perplexity |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    measure("packaged", PACKAGED, lambda: world_prompts(arguments.clips), arguments.tokens)
    # bitsandbytes packs NF4 in blocks of rows that this one is too small for.
    measure("golden", GOLDEN, random_prompt(GOLDEN, 256), arguments.tokens, KINDS[:3])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model([0, 8, 16], torch.bfloat16).save_pretrained(folder)
        prompts = random_prompt(folder, 5184)
        measure("Qwen2-0.5B dimensions", folder, prompts, arguments.tokens)


if __name__ == "__main__":
    main()
