#!/usr/bin/env bash
# transformers 5.24, pipelines with batch_size: of several videos (or volumes of frames) that belong
# to one input, the default collate keeps the first and drops the others without a word, because it
# pads `item[key][0]`; images (four dimensions, `pixel_values`) are concatenated and all kept.
# A guess would be: concatenated too, or refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 tokenizers
cat >"$folder/show.py" <<'PYTHON'
from types import SimpleNamespace

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.pipelines.base import pad_collate_fn

tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "a": 1}, "<pad>")), pad_token="<pad>"
)
# As a processor gives them for one prompt with two videos of four frames, and two images.
item = {
    "input_ids": torch.ones(1, 3, dtype=torch.long),
    "pixel_values_videos": torch.stack([torch.full((4, 3, 2, 2), v) for v in (1.0, 2.0)]),
    "pixel_values": torch.stack([torch.full((3, 2, 2), v) for v in (1.0, 2.0)]),
}
images = SimpleNamespace(padding_value=0.0, padding_side=None)  # stands for an image processor
batch = pad_collate_fn(tokenizer, images)([dict(item), dict(item)])
videos = [v.mean().item() for v in batch["pixel_values_videos"]]
images = [v.mean().item() for v in batch["pixel_values"]]
print("transformers", transformers.__version__)
print("two inputs with the videos 1, 2 each become", videos)
print("two inputs with the images 1, 2 each become", images)
assert videos == [1.0, 1.0], "the second video of each input is kept now"
assert images == [1.0, 2.0, 1.0, 2.0]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
