"""What a machine computes fast; knows nothing of models."""

from typing import Any

import torch


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Whether bfloat16 is what to compute in on `device`.

    A CPU without instructions for it is slower by far than in float32: 0.9 GFLOP/s instead of 67
    in matrix products of one core that has AVX2 alone (torch 2.13).
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind != "cpu" or _has_any("avx512_bf16", "amx_bf16", "bf16")


def int8_is_fast() -> bool:
    """Whether the CPU has instructions that multiply int8 and add up in int32."""
    return _has_any("avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm")


def _has_any(*names: str) -> bool:
    has: Any = getattr(torch.cpu, "get_capabilities", dict)()  # not in every version of torch
    return any(has.get(name) for name in names)
