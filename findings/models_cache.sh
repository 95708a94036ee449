#!/usr/bin/env bash
# transformers 5.24, Qwen2-VL (as Qwen2.5-VL and Qwen3-VL): a forward pass over more tokens with the
# cache of a prompt and an attention mask over all tokens, as every other decoder takes it, fails
# with tensors of sizes that do not fit: positions are made for the whole mask, not for the new
# tokens. Without the mask it works, and so it does with `position_ids`.
# A guess would be: the same logits as without a mask of ones, as in LLaVA-OneVision or Qwen2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0
cat >"$folder/show.py" <<'PYTHON'
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2VLConfig, Qwen2VLForConditionalGeneration

torch.manual_seed(0)
text = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}
rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 7}
config = Qwen2VLConfig(
    text_config={**text, "rope_parameters": rope}, vision_config=vision,
    video_token_id=1, image_token_id=2, vision_start_token_id=3, vision_end_token_id=4,
)
ids = torch.tensor([[10, 3, 1, 1, 4, 11, 12, 13]])
video = {
    "pixel_values_videos": torch.rand(8, 3 * 2 * 7 * 7), "video_grid_thw": torch.tensor([[2, 2, 2]]),
    "mm_token_type_ids": (ids[:, :6] == 1).long() * 2,
}


def continued(model, inputs, **mask):
    with torch.no_grad():
        cache = model(input_ids=ids[:, :6], use_cache=True, **inputs).cache
        return model(input_ids=ids[:, 6:], cache=cache, **mask).logits


print("transformers", transformers.__version__)
everything = {"attention_mask": torch.ones_like(ids)}
plain = Qwen2ForCausalLM(Qwen2Config(**text)).eval()
same = torch.allclose(continued(plain, {}), continued(plain, {}, **everything), atol=1e-5)
print("Qwen2, with a mask of ones and without: same logits:", same)
assert same
model = Qwen2VLForConditionalGeneration(config).eval()
continued(model, video)
print("Qwen2-VL without a mask: works")
try:
    continued(model, video, **everything)
except RuntimeError as error:
    print("Qwen2-VL with a mask of ones:", str(error).splitlines()[0])
else:
    raise SystemExit("it takes the mask now")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
