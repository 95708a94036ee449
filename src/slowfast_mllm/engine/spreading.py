"""How one model is loaded over several devices (`--device auto`) or processes (`--device tp`)."""

import importlib.util
import os
from typing import Any

import torch
from transformers.distributed import DistributedConfig

from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.sharding import from_first, is_split

AUTO, TENSOR_PARALLEL = "auto", "tp"


def spread_options(device: str, config: SlowFastConfig, is_adapter: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` that spread a model.

    Args:
        device: "auto": layers over all devices here, what does not fit on the disk; "tp": heads
            over the processes that `torchrun` started.

    Raises:
        ValueError: something is not installed, or the model is not split over so many processes.
            One line.
    """
    if device == AUTO:
        if importlib.util.find_spec("accelerate") is None:
            raise ValueError("--device auto: needs accelerate; `pip install accelerate`.")
        return {"device_map": "auto"}
    if is_adapter:
        raise ValueError("--device tp: not for adapters; merge it into its model and save that.")
    _check_split(config, int(os.environ.get("WORLD_SIZE", 1)))
    return {"distributed_config": DistributedConfig(tp_plan="auto")}


def _check_split(config: SlowFastConfig, count: int) -> None:
    """Whether a language model's heads can be given to so many processes."""
    if count < 2 or "RANK" not in os.environ:
        raise ValueError(
            "--device tp: one model over several processes; start them with `torchrun "
            "--nproc-per-node 2 -m slowfast_cli ask ...`."
        )
    text = config.text_config
    if not text.base_model_tp_plan:
        raise ValueError(
            f"--device tp: transformers cannot split {text.model_type!r}; use --device auto."
        )
    heads, keys = text.num_attention_heads, text.num_key_value_heads
    if heads % count or keys % count:
        fits = [n for n in range(2, keys + 1) if heads % n == keys % n == 0]
        hint = f"start {' or '.join(map(str, fits))}" if fits else "use --device auto"
        raise ValueError(
            f"--device tp: {heads} heads with {keys} of keys do not split over {count} processes; "
            f"{hint}."
        )


def draw_alike(network: SlowFastForConditionalGeneration) -> None:
    """Let answers that are drawn without a seed be the same in all processes."""
    if is_split(network):
        torch.manual_seed(from_first(network, torch.seed()))
