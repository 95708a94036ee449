"""What a machine computes fast, and with how many threads; knows nothing of models."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Parameters from which on a second thread is worth it. Below, threads wait for one another longer
# than they compute, and where others work on the same cores, for those, too: a question to a model
# of eleven million took 27 ms with one thread and 1,187 ms with two beside a busy loop on each
# core, and 24 and 25 ms without.
_SMALL = 20_000_000
_COUNTING = threading.Lock()


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


def threads_for(parameters: int) -> int:
    """How many of torch's threads suit so many parameters on a CPU; all, where the user has said
    how many there are (`OMP_NUM_THREADS`)."""
    small = parameters < _SMALL and "OMP_NUM_THREADS" not in os.environ
    return 1 if small else torch.get_num_threads()


@contextmanager
def suitable_threads(*modules: nn.Module) -> Iterator[None]:
    """Within it, torch computes in this thread with as many of its threads as suit the modules.

    Other threads, also those yet to come, and this one afterwards keep what they had.
    """
    sizes = [(p.numel(), p.device.type) for module in modules for p in module.parameters()]
    before = torch.get_num_threads()
    wanted = threads_for(sum(size for size, _ in sizes))
    if wanted == before or any(kind not in ("cpu", "meta") for _, kind in sizes):
        yield
        return
    with _COUNTING:
        torch.set_num_threads(wanted)
        # What is set last, by whatever thread, is what new threads begin with.
        last = threading.Thread(target=torch.set_num_threads, args=(before,))
        last.start()
        last.join()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_any(*names: str) -> bool:
    has: Any = getattr(torch.cpu, "get_capabilities", dict)()  # not in every version of torch
    return any(has.get(name) for name in names)
