"""Tiny random checkpoints of other families, as their makers write them: folders with config,
weights, tokenizer, chat template and processor settings."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GPT2Config,
    PreTrainedTokenizerFast,
    TimesformerConfig,
    VisionEncoderDecoderConfig,
)

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_SPECIAL = [
    *("<pad>", "<bos>", "<eos>", "<image>", "<video>", "<begin>", "<finish>"),
    *("<fake_token_around_image>", "<global-img>"),
]
IDS = {token: len(_BYTES) + i for i, token in enumerate(_SPECIAL)}
_VOCABULARY = len(_BYTES) + len(_SPECIAL)
# No narrower: nf4 takes 64 numbers at a time.
_TEXT = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "eos_token_id": IDS["<eos>"],
    "bos_token_id": IDS["<bos>"],
    "pad_token_id": IDS["<pad>"],
}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
_TOKENS = {"image_token_id": IDS["<image>"], "video_token_id": IDS["<video>"]}
_QWEN_TOKENS = {
    **_TOKENS,
    "vision_start_token_id": IDS["<begin>"],
    "vision_end_token_id": IDS["<finish>"],
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
_QWEN_SIZE = {"size": {"shortest_edge": 16 * 28, "longest_edge": 28 * 28 * 6}}
_PATCHES = {"patch_size": 7, "temporal_patch_size": 2, "merge_size": 2}
_SMALL = {"size": {"height": 28, "width": 28}}


def _template(video: str, end: str = "\n") -> str:
    """ChatML, in which a video becomes `video`."""
    return (
        "{% for m in messages %}<begin>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'video' %}" + video + "{% else %}{{ c.text }}{% endif %}{% endfor %}"
        "<eos>\n{% endfor %}{% if add_generation_prompt %}<begin>assistant" + end + "{% endif %}"
    )


def _qwen(model_type: str, vision: dict[str, Any], video: str) -> dict[str, Any]:
    text = {**_TEXT, "rope_parameters": _MROPE}
    tower = {"depth": 2, "num_heads": 2, "patch_size": 7, **vision}
    return {
        "config": {"model_type": model_type, "text_config": text, "vision_config": tower}
        | _QWEN_TOKENS,
        "settings": {**_PATCHES, **_QWEN_SIZE},
        "template": _template(f"<begin>{video}<finish>"),
    }


def _llava(model_type: str, tower: str, settings: dict[str, Any]) -> dict[str, Any]:
    vision = {"model_type": tower, **_TOWER}
    config = {"vision_config": vision, "text_config": {"model_type": "qwen2", **_TEXT}}
    tokens = {"image_token_index": IDS["<image>"], "video_token_index": IDS["<video>"]}
    return {
        "config": {"model_type": model_type, **config, **tokens},
        "settings": settings,
        "template": _template("<video>\n", "ASSISTANT:"),
    }


FAMILIES: dict[str, dict[str, Any]] = {
    "llava_next_video": _llava(
        "llava_next_video",
        "clip_vision_model",
        {
            "size": {"shortest_edge": 28},
            "crop_size": {"height": 28, "width": 28},
            "do_center_crop": True,
        },
    ),
    "llava_onevision": _llava("llava_onevision", "siglip_vision_model", _SMALL),
    "qwen2_vl": _qwen("qwen2_vl", {"embed_dim": 32, "hidden_size": 64}, "<video>"),
    "qwen2_5_vl": _qwen(
        "qwen2_5_vl",
        {
            "hidden_size": 32,
            "out_hidden_size": 64,
            "intermediate_size": 48,
            "window_size": 28,
            "fullatt_block_indexes": [1],
        },
        "<video>",
    ),
    "qwen3_vl": _qwen(
        "qwen3_vl",
        {
            "hidden_size": 32,
            "out_hidden_size": 64,
            "intermediate_size": 48,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        "<video>",
    ),
    "smolvlm": {
        "config": {
            "model_type": "smolvlm",
            "scale_factor": 2,
            "image_token_id": IDS["<image>"],
            "vision_config": _TOWER,
            "text_config": {"model_type": "llama", **_TEXT},
        },
        "settings": {
            "max_image_size": {"longest_edge": 28},
            "video_sampling": {"fps": 1, "max_frames": 8, "video_size": {"longest_edge": 56}},
        },
        "template": _template("no videos", "Assistant:"),
    },
    "internvl": {
        "config": {
            "model_type": "internvl",
            "image_token_id": IDS["<image>"],
            "image_seq_length": 4,
            "vision_config": {**_TOWER, "image_size": [28, 28], "patch_size": [7, 7]},
            "text_config": {"model_type": "qwen2", **_TEXT},
        },
        "settings": _SMALL,
        "template": _template("<video>\n"),
    },
    "gemma3": {
        "config": {
            "model_type": "gemma3",
            "image_token_index": IDS["<image>"],
            "boi_token_index": IDS["<begin>"],
            "eoi_token_index": IDS["<finish>"],
            "mm_tokens_per_image": 4,
            "vision_config": {"model_type": "siglip_vision_model", **_TOWER},
            "text_config": {**_TEXT, "sliding_window": 16},
        },
        "settings": _SMALL,
        "template": "<bos>" + _template("no videos"),
    },
}


def write(family: str, folder: Path) -> Path:
    """A checkpoint of a family (`captioner` too), with random weights that are always the same."""
    torch.manual_seed(7)
    tokenizer = _tokenizer()
    if family == "captioner":
        config, settings = _captioner(), {"size": 28, "crop_size": 28, "do_center_crop": True}
    else:
        made = FAMILIES[family]
        kind = made["config"]["model_type"]
        config = AutoConfig.for_model(**{**made["config"], "model_type": kind})
        settings = made["settings"]
        tokenizer.chat_template = made["template"]
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = IDS["<eos>"]
    model.generation_config.pad_token_id = IDS["<pad>"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    vision = {"patch_size": 7, "num_image_tokens": 16, "vision_feature_select_strategy": "default"}
    if family.startswith("llava"):
        (folder / "processor_config.json").write_text(json.dumps(vision))
    return folder


def _captioner() -> VisionEncoderDecoderConfig:
    encoder = TimesformerConfig(**{**_TOWER, "num_frames": 4})
    decoder = GPT2Config(
        vocab_size=_VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64,
        bos_token_id=IDS["<bos>"], eos_token_id=IDS["<eos>"],
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = IDS["<bos>"]
    config.pad_token_id = IDS["<pad>"]
    return config


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens."""
    plain = Tokenizer(models.BPE(vocab={b: i for i, b in enumerate(_BYTES)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<image>",
            "video_token": "<video>",
            "start_image_token": "<begin>",
            "end_image_token": "<finish>",
            "fake": "<fake_token_around_image>",
            "global": "<global-img>",
        },
    )
