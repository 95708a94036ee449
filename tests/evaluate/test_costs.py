"""Costs: the paper's promise holds at full size, and estimates agree with what is really held."""

import pytest
import torch

from slowfast_mllm import load
from slowfast_mllm.evaluate.costs import Cost, count_costs, estimate_memory, published_config
from slowfast_mllm.model import SlowFastConfig
from slowfast_mllm.model.cpu_linear import NarrowLinear


@pytest.fixture(scope="module")
def costs() -> dict[int, Cost]:
    return {n: count_costs(published_config(n), n) for n in (16, 128)}


def test_eight_times_the_frames_cost_the_language_model_next_to_nothing(costs) -> None:
    few, many = costs[16], costs[128]
    assert (few.slow_tokens, many.slow_tokens) == (1296, 10368)
    assert few.fast_tokens == many.fast_tokens == 1296
    assert many.prefill + many.memory <= 1.03 * (few.prefill + few.memory)
    assert many.decode <= 1.05 * many.text_only_decode
    assert many.projecting_again_decode > 20 * many.decode
    assert many.self_attention_prefill > 8 * many.prefill


def test_counts_are_those_of_the_arithmetic(costs) -> None:
    layer = 3584 * (2 * 3584 + 2 * 512) + 3 * 3584 * 18944
    length, width, layers, vocabulary = 1396, 3584, 28, 152064
    linear = 2 * (layers * layer * length + width * vocabulary)
    causal = 2 * length**2 * width * layers
    slow = 4 * 4 * 100 * 10368 * width  # four hybrid layers, a hundred text tokens, two products
    assert costs[128].prefill == pytest.approx(linear + causal + slow, rel=1e-3)
    assert costs[128].memory == 4 * 2 * 10368 * 3584 * 1024
    assert costs[128].vision == pytest.approx(128 * 2.02e12, rel=0.01)


def test_the_memory_estimate_is_what_is_held() -> None:
    assistant = load(device="cpu")
    side = assistant.model.config.frame_size
    clip = torch.randint(0, 255, (24, side, side, 3), dtype=torch.uint8).numpy()
    memory = assistant.encode(clip, num_frames=24).memory
    estimate = estimate_memory(assistant.model.config, 24, bytes_per_value=4)
    assert estimate.video_memory == memory.nbytes
    assert estimate.weights == sum(p.numel() * 4 for p in assistant.model.parameters())
    assert estimate.frames == clip.nbytes
    assert estimate.peak > estimate.weights + estimate.video_memory


@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
def test_the_memory_estimate_knows_quantized_weights(kind: str) -> None:
    pytest.importorskip("bitsandbytes" if kind == "nf4" else "onnxruntime")
    model = load(device="cpu", dtype="bfloat16", quantize=kind).model
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    held += sum(layer.nbytes for layer in model.modules() if isinstance(layer, NarrowLinear))
    estimate = estimate_memory(model.config, 24, bytes_per_value=2, quantize=kind)
    assert estimate.weights == pytest.approx(held, rel=0.05)
    plain = estimate_memory(model.config, 24, bytes_per_value=2)
    assert estimate.weights < 0.9 * plain.weights
    assert estimate.video_memory == plain.video_memory
    wide = estimate_memory(model.config, 24, 4, quantize=kind, weight_bytes=2)
    assert wide.weights == estimate.weights
    assert wide.video_memory == 2 * plain.video_memory


def test_every_tower_that_can_be_named_has_an_estimate() -> None:
    config = SlowFastConfig(
        text_config=published_config(8).text_config,
        vision_config={"model_type": "dinov2"},
        hybrid_layers=[0],
    )
    assert estimate_memory(config, 8, bytes_per_value=2).peak > 1e8


def test_objects_are_counted() -> None:
    """Their tokens, the detector's work, and frames of the size that it reads."""
    fields = {"model_type": "slowfast_nanodet", "given": "objects", "num_objects": 10}
    vision = {"model_type": "slowfast_convnext", "image_size": 96, "depths": [1, 2, 4],
              "hidden_sizes": [48, 96, 192]}  # fmt: skip
    text = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 99,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    parts = {"text_config": text, "vision_config": vision, "hybrid_layers": [1]}
    without = count_costs(SlowFastConfig(**parts), 32)
    costs = count_costs(SlowFastConfig(**parts, object_config=fields), 32)
    assert costs.slow_tokens - without.slow_tokens == 320
    # As its makers count: 2.5 GFLOP a frame.
    assert (costs.vision - without.vision) / 32 == pytest.approx(2.5e9, rel=0.05)
    kept = estimate_memory(SlowFastConfig(**parts, object_config=fields), 32, 4)
    assert kept.frames == 32 * 320**2 * 3
