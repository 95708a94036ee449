"""Makes this folder from the full golden data: `python reduce.py ../../../../shared/golden`.

Kept is the first frame of each case. The expected pixels are stored as the grey levels that they
were before normalisation: whole numbers, so nothing is lost.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def main(source: Path) -> None:
    reduced = {}
    for name, tensor in load_file(source / "preprocess.safetensors").items():
        kept = tensor[:1]
        if name.endswith("pixel_values"):
            levels = (kept * STD + MEAN) * 255
            kept = levels.round().to(torch.uint8)
            assert (levels - kept).abs().max() < 1e-3
            name = name.replace("pixel_values", "grey_levels")
        reduced[name] = kept.contiguous()
    save_file(reduced, HERE / "preprocess.safetensors")
    shutil.copy(source / "sampling.json", HERE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
