#!/usr/bin/env bash
# transformers 5.24: a checkpoint that was saved quantized (bitsandbytes, int8) with bfloat16 beside
# the int8 weights, opened with dtype=float32. Of what was not quantized the biases become float32
# and the weights stay bfloat16, so that one layer has both, and the first such layer fails.
# A guess would be: all of them are converted, as when a plain checkpoint is opened, or none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 bitsandbytes==0.50.2
cat >"$folder/show.py" <<'PYTHON'
import sys

import bitsandbytes
import torch
import transformers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, OPTConfig, OPTForCausalLM

plain, quantized = sys.argv[1:]
config = OPTConfig(vocab_size=64, hidden_size=32, ffn_dim=64, num_hidden_layers=1,
                   num_attention_heads=4, word_embed_proj_dim=32, max_position_embeddings=64)
OPTForCausalLM(config).bfloat16().save_pretrained(plain)
asked = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["fc1", "fc2", "lm_head"])
AutoModelForCausalLM.from_pretrained(plain, quantization_config=asked).save_pretrained(quantized)
again = AutoModelForCausalLM.from_pretrained(quantized, dtype=torch.float32)
layer = again.model.decoder.layers[0].fc1
print("transformers", transformers.__version__, "bitsandbytes", bitsandbytes.__version__)
print("asked for float32: fc1.weight", layer.weight.dtype, "fc1.bias", layer.bias.dtype)
try:
    layer(torch.zeros(1, 32))
    failed = ""
except RuntimeError as error:
    failed = str(error)
print("the layer says:", failed)
assert layer.weight.dtype == torch.bfloat16
assert layer.bias.dtype == torch.float32
assert failed
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/plain" "$folder/quantized"
