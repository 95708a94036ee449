"""Which of transformers' common model tests may be skipped: words of the reason -> why it is so."""

EXPECTED_SKIPS = {
    # This machine.
    "test requires": "a GPU, MPS, flash attention, DeepSpeed or the kernels library is not here",
    "test is slow": "they compile training on an accelerator only, where ours do not run",
    # The language model of the tests (Qwen2), not of every family.
    "does not support grouped_mm": "no experts",
    "has no sparse experts": "no experts",
    "output_router_logits": "no experts",
    "partial rope": "Qwen2 rotates all of a head",
    "sliding window mask": "off by default in Qwen2",
    "has no axial RoPE": "the vision tower is convolutional",
    # Slow-Fast.
    "wants the tower's states": "`common_model_cases.py` says why there are none",
    "Hybrid layers name our interface": "see the test that `common_model_cases.py` overrides",
    "does not support output_attentions": (
        "they look for the word in the annotation of **kwargs; that attentions come out is in "
        "test_attention_interface.py"
    ),
    "is not an encoder-decoder": "a decoder",
    "_keep_in_fp32_modules": "nothing has to stay in float32",
    "does not have position embeddings": "rotary positions only",
    "SlowFastModel does not support SDPA": "that test is for models without sub-models",
}


def is_expected(reason: str) -> bool:
    return any(words in reason for words in EXPECTED_SKIPS)
