#!/usr/bin/env bash
# asv_runner 0.2.1 on Linux: the peak memory that a `peakmem` benchmark tells of a process begins
# with the peak of the program that started it, though it is a fresh process of another program
# (fork and exec, as `subprocess.run` and multiprocessing's "spawn" do it): `ru_maxrss` of
# getrusage survives exec, while `VmHWM` of /proc/self/status does not.
# A guess would be: a benchmark of nothing in a process of its own takes what Python takes, about
# 15 MB, whoever started it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asv_runner==0.2.1
cat >"$folder/measure.py" <<'PYTHON'
from importlib.metadata import version
from asv_runner.benchmarks.peakmem import PeakMemBenchmark


def peakmem_nothing():
    pass


told = PeakMemBenchmark("peakmem_nothing", peakmem_nothing, [peakmem_nothing]).run()
with open("/proc/self/status") as status:
    own = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
print(version("asv_runner"), told, own)
PYTHON
cat >"$folder/show.py" <<'PYTHON'
import os
import subprocess
import sys


def measured() -> tuple[float, float]:
    """MB that asv_runner tells of a process that does nothing, and its own largest."""
    command = [sys.executable, f"{os.path.dirname(__file__)}/measure.py"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    version, told, own = out.split()
    print(f"asv_runner {version}: tells {int(told) / 1e6:.0f} MB, VmHWM {int(own) / 1e6:.0f} MB")
    return int(told) / 1e6, int(own) / 1e6


print("started by a program that took little:")
little, own_little = measured()
large = bytearray(400_000_000)
del large
print("started by the same program after it took, and freed, 400 MB:")
after, own_after = measured()
as_told = little < 100 and after > 400 and abs(own_after - own_little) < 20
print("as described" if as_told else "CHANGED")
sys.exit(not as_told)
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
