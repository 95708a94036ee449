"""Makes this folder from the full golden data: `python reduce.py ../../../../shared/golden`.

What is kept is copied bit for bit; three things are left out so that it fits a repository:

- rows of the vocabulary that no prompt and no answer holds (token ids are renumbered, the logits
  keep the same rows);
- the tower's unused head, and the tower and projector of `all_tokens` (tests borrow those of
  `s1t4`; the case brings its visual tokens along);
- most pixel values (visual tokens are kept for every case), and the language model of `s2t4`, which
  differs from `s1t4` only in how fast tokens are made.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).parent
NUM_KEPT = 64
VISUAL = ("model.vision_tower.", "model.mm_projector.")
WITH_PIXELS = {("s1t4", "image", 0), ("s1t4", "batch", 0)}


def kept_ids(cases: dict[str, Tensor]) -> Tensor:
    """Ids in prompts and answers, and the first others up to `NUM_KEPT`, in ascending order."""
    used = {
        int(i)
        for name, tensor in cases.items()
        if name.split(".")[1] in ("input_ids", "greedy_full_attention", "greedy_reference_decode")
        for i in tensor.flatten()
        if i >= 0
    }
    others = (i for i in range(NUM_KEPT * 2) if i not in used)
    while len(used) < NUM_KEPT:
        used.add(next(others))
    return torch.tensor(sorted(used))


def reduce_cases(kind: str, cases: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """Renumber ids, keep the logits of the kept rows, drop most pixel values."""
    reduced = {}
    for name, tensor in cases.items():
        case, what = name.split(".")[:2]
        if what == "pixel_values" and (kind, case, int(name.split(".")[2])) not in WITH_PIXELS:
            continue
        if what == "logits":
            tensor = tensor[..., ids]
        elif what != "attention_mask" and not tensor.is_floating_point():
            tensor = torch.where(tensor < 0, tensor, torch.searchsorted(ids, tensor.clamp(min=0)))
        reduced[name] = tensor.contiguous()
    return reduced


def reduce_checkpoint(kind: str, weights: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """Drop the head and unused rows; of `all_tokens` also tower and projector."""
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][ids].contiguous()
    drop = VISUAL if kind == "all_tokens" else ("model.vision_tower.vision_tower.head.",)
    return {name: tensor for name, tensor in weights.items() if not name.startswith(drop)}


def main(full: Path) -> None:
    shutil.copy(full / "official_7b_manifest.json", HERE)
    for kind in ("s1t4", "s2t4", "all_tokens"):
        source, target = full / kind, HERE / kind
        target.mkdir(exist_ok=True)
        cases = load_file(source / "cases.safetensors")
        ids = kept_ids(cases)
        save_file(reduce_cases(kind, cases, ids), target / "cases.safetensors")
        shutil.copy(source / "cases.json", target)
        config = json.loads((source / "config.json").read_text()) | {"vocab_size": len(ids)}
        (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        if kind != "s2t4":
            weights = reduce_checkpoint(kind, load_file(source / "model.safetensors"), ids)
            save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
