#!/usr/bin/env bash
# transformers 5.24: a checkpoint whose files hold fused weights (here HRM-Text: gate and up in one,
# and gate, query, key, value in one, as `save_pretrained` writes them) loaded with a tensor parallel
# plan. Each process reads its own rows of the fused weight first and splits them afterwards, so the
# first of two processes cuts the gate into a "gate" and an "up", and the second the rest: all shapes
# fit, nothing is missing, nothing is said, and the logits are others than those of one process.
# A guess would be: each process gets its rows of each of the weights, or loading is refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
cat >"$folder/show.py" <<'PYTHON'
import os
import sys

import torch
import torch.distributed as dist
import transformers
from transformers import HrmTextConfig, HrmTextForCausalLM
from transformers.distributed import DistributedConfig

place = sys.argv[1]
dist.init_process_group("gloo")
config = HrmTextConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4,
    num_key_value_heads=4, head_dim=8, num_layers_per_stack=1, H_cycles=1, L_cycles=1, initializer_range=0.5,
)
torch.manual_seed(0)
if dist.get_rank() == 0:
    HrmTextForCausalLM(config).save_pretrained(place)
dist.barrier()
one = HrmTextForCausalLM.from_pretrained(place)
two, report = HrmTextForCausalLM.from_pretrained(
    place, distributed_config=DistributedConfig(tp_plan="auto"), output_loading_info=True
)
wrong, right, shares = [], [], two.state_dict()
for name, weight in one.state_dict().items():
    share = shares[name]
    whole = share.full_tensor() if hasattr(share, "full_tensor") else share
    assert whole.shape == weight.shape
    (right if torch.equal(whole, weight) else wrong).append(name)
ids = torch.arange(8)[None]
with torch.no_grad():
    apart = (one(input_ids=ids).logits - two(input_ids=ids).logits).abs().max().item()
if dist.get_rank() == 0:
    print("transformers", transformers.__version__, "torch", torch.__version__)
    print("missing:", sorted(report["missing_keys"]), "mismatched:", report["mismatched_keys"])
    print(len(right), "weights are those of one process, these are others:", *wrong, sep="\n  ")
    print("logits differ by", apart)
assert not report["missing_keys"] and not report["mismatched_keys"]
assert any("gate_proj" in name for name in wrong) and any("up_proj" in name for name in wrong)
assert right
assert apart > 0.1
dist.barrier()
sys.stdout.flush()
os._exit(0)
PYTHON
export TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node 2 "$folder/show.py" "$folder/model"
