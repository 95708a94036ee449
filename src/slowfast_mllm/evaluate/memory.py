"""How much memory this process took at most."""

import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Bytes of this process's own resident memory, at its largest.

    Linux is not asked by `getrusage`: a process begins there with the peak of the one that started
    it.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory() -> int | None:
    """Bytes of GPU memory that tensors took at most, over all devices; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
