#!/usr/bin/env bash
# Speculative decoding with a draft that is the same model: each of its tokens is accepted, so 20
# tokens take one forward pass of the target. One would expect the same of a model that sees an
# image, since the draft is handed `pixel_values` too. In transformers 5.24 it takes nearly one pass a
# token: `_prefill` tells the draft's model that its prefill is not the first iteration
# (`is_first_iteration=not generation_config.is_assistant`), and `prepare_inputs_for_generation` then
# drops the pixels. The answer stays right, but the draft guesses without the image: no error, no
# warning, no gain.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 transformers==5.24.0
"$folder/env/bin/python" - <<'PYTHON'
import copy

import torch
import transformers
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

transformers.logging.set_verbosity_error()
IMAGE, NEW_TOKENS = 99, 20
torch.manual_seed(0)
size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
vision = CLIPVisionConfig(**size, image_size=16, patch_size=8, projection_dim=16)
text = Qwen2Config(
    **size, vocab_size=100, num_key_value_heads=2, eos_token_id=None, pad_token_id=0, bos_token_id=1
)
config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, image_seq_length=4)
model = LlavaForConditionalGeneration(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        weight.add_(0.3 * torch.randn(weight.shape))


def forward_passes(**inputs):
    """Of the target, for an answer that a copy of it drafts."""
    options = dict(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    expected = model.generate(**inputs, **options)
    draft = copy.deepcopy(model)
    draft.generation_config.update(
        num_assistant_tokens=2 * NEW_TOKENS,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0.0,
    )
    passes = []
    hook = model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert torch.equal(model.generate(**inputs, assistant_model=draft, **options), expected)
    hook.remove()
    return len(passes)


words = torch.tensor([[5, 6, 9, 11, 12, 7, 8]])
shown = torch.tensor([[5, IMAGE, IMAGE, IMAGE, IMAGE, 7, 8]])
without = forward_passes(input_ids=words, attention_mask=torch.ones_like(words))
pixels = torch.randn(1, 3, 16, 16)
with_image = forward_passes(
    input_ids=shown, attention_mask=torch.ones_like(shown), pixel_values=pixels
)
print("transformers", transformers.__version__, "torch", torch.__version__)
print(f"{NEW_TOKENS} tokens, the draft is a copy of the model. Forward passes of the target:")
print(f"  prompt of words: {without}\n  prompt with an image: {with_image}")
assert without <= 2 and with_image > NEW_TOKENS // 2, "this has changed"
PYTHON
