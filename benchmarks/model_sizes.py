"""Whether the sizes in `engine/models.json` are those of the models: parameters, counted.

Each model is built without weights from the dimensions in its config, as they stand in the
conversion scripts of transformers and in the published config files. A parameter takes two bytes
in the files, but four in those of SmolVLM2 and SpaceTimeGPT. Needs no network.

    python benchmarks/model_sizes.py
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers as hf

from slowfast_mllm.engine.catalog import KNOWN
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration

_FOUR_BYTES = ("smolvlm", "vision-encoder-decoder")


def text(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        **more,
    }


def vision(
    kind: str, sizes: Sequence[int], image_size: Any, patch_size: Any, **more: Any
) -> dict[str, Any]:
    hidden, inner, layers, heads = sizes
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image_size,
        "patch_size": patch_size,
        **more,
    }


_SMALL, _LARGE = (768, 3072, 12, 12), (1024, 4096, 24, 16)
_SO400M = (1152, 4304, 27, 16)
_QWEN2_05B, _QWEN2_15B = (896, 4864, 24, 14, 2), (1536, 8960, 28, 12, 2)
_QWEN2_7B = (3584, 18944, 28, 28, 4)


def slowfast() -> Any:
    words = text(*_QWEN2_7B, 152064, model_type="qwen2", tie_word_embeddings=False)
    tower = {
        "model_type": "slowfast_convnext",
        "depths": [3, 4, 30, 3],
        "hidden_sizes": [384, 768, 1536, 3072],
        "image_size": 576,
    }
    return SlowFastConfig(text_config=words, vision_config=tower, hybrid_layers=[0, 8, 16, 24])


def qwen2_vl() -> Any:
    tower = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16}
    words = text(*_QWEN2_15B, 151936)
    return hf.Qwen2VLConfig(text_config=words, vision_config=tower, tie_word_embeddings=True)


def qwen25_vl(words: dict[str, Any], tied: bool) -> Any:
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    tower["out_hidden_size"] = words["hidden_size"]
    return hf.Qwen2_5_VLConfig(text_config=words, vision_config=tower, tie_word_embeddings=tied)


def qwen3_vl(words: dict[str, Any], sizes: Sequence[int], deep: list[int], tied: bool) -> Any:
    names = ("hidden_size", "intermediate_size", "depth", "num_heads")
    tower = {**dict(zip(names, sizes, strict=True)), "deepstack_visual_indexes": deep}
    tower["out_hidden_size"] = words["hidden_size"]
    words = {**words, "head_dim": 128}
    return hf.Qwen3VLConfig(text_config=words, vision_config=tower, tie_word_embeddings=tied)


def llava_onevision(words: dict[str, Any], tied: bool) -> Any:
    sizes = (*_SO400M[:2], 26, 16)
    tower = vision("siglip_vision_model", sizes, 384, 14, vision_use_head=False)
    words = {**words, "model_type": "qwen2"}
    return hf.LlavaOnevisionConfig(text_config=words, vision_config=tower, tie_word_embeddings=tied)


def llava_next_video() -> Any:
    tower = vision("clip_vision_model", _LARGE, 336, 14, projection_dim=768)
    words = text(4096, 11008, 32, 32, 32, 32064, model_type="llama")
    return hf.LlavaNextVideoConfig(
        text_config=words, vision_config=tower, tie_word_embeddings=False
    )


def internvl(words: dict[str, Any]) -> Any:
    tower = vision("internvl_vision", _LARGE, [448, 448], [14, 14], attention_bias=True)
    words = {**words, "model_type": "qwen2"}
    return hf.InternVLConfig(text_config=words, vision_config=tower, tie_word_embeddings=False)


def gemma3() -> Any:
    tower = vision("siglip_vision_model", _SO400M, 896, 14, vision_use_head=False)
    words = text(2560, 10240, 34, 8, 4, 262208, head_dim=256)
    return hf.Gemma3Config(text_config=words, vision_config=tower)


def smolvlm(words: dict[str, Any], tower: dict[str, Any], scale: int) -> Any:
    words = {**words, "model_type": "llama"}
    return hf.SmolVLMConfig(
        text_config=words, vision_config=tower, scale_factor=scale, tie_word_embeddings=False
    )


def spacetimegpt() -> Any:
    decoder = hf.GPT2Config(add_cross_attention=True, is_decoder=True)
    return hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        hf.TimesformerConfig(num_frames=8), decoder
    )


_512 = vision("smolvlm_vision", _SMALL, 512, 16)
_384 = vision("smolvlm_vision", _SO400M, 384, 14)
CONFIGS: dict[str, Callable[[], Any]] = {
    "slowfast-64": slowfast,
    "slowfast-96": slowfast,
    "slowfast-128": slowfast,
    "smolvlm2-256m": lambda: smolvlm(text(576, 1536, 30, 9, 3, 49280), _512, 4),
    "smolvlm2-500m": lambda: smolvlm(text(960, 2560, 32, 15, 5, 49280), _512, 4),
    "smolvlm2-2.2b": lambda: smolvlm(text(2048, 8192, 24, 32, 32, 49280), _384, 3),
    "qwen2-vl-2b": qwen2_vl,
    "qwen2.5-vl-3b": lambda: qwen25_vl(text(2048, 11008, 36, 16, 2, 151936), True),
    "qwen2.5-vl-7b": lambda: qwen25_vl(text(*_QWEN2_7B, 152064), False),
    "video-r1": lambda: qwen25_vl(text(*_QWEN2_7B, 152064), False),
    "qwen3-vl-2b": lambda: qwen3_vl(text(2048, 6144, 28, 16, 8, 151936), _LARGE, [5, 11, 17], True),
    "qwen3-vl-4b": lambda: qwen3_vl(text(2560, 9728, 36, 32, 8, 151936), _LARGE, [5, 11, 17], True),
    "qwen3-vl-8b": lambda: qwen3_vl(
        text(4096, 12288, 36, 32, 8, 151936), _SO400M, [8, 16, 24], False
    ),
    "llava-onevision-0.5b": lambda: llava_onevision(text(*_QWEN2_05B, 152000), True),
    "llava-onevision-7b": lambda: llava_onevision(text(*_QWEN2_7B, 152128), False),
    "llava-next-video-7b": llava_next_video,
    "internvl3-1b": lambda: internvl(text(*_QWEN2_05B, 151674)),
    "internvl3-2b": lambda: internvl(text(*_QWEN2_15B, 151674)),
    "gemma3-4b": gemma3,
    "spacetimegpt": spacetimegpt,
}
_CLASSES = {
    "slowfast": SlowFastForConditionalGeneration,
    "vision-encoder-decoder": hf.VisionEncoderDecoderModel,
}


def parameters(kind: str, config: Any) -> int:
    """How many; those that are shared count once."""
    with torch.device("meta"):
        if kind in _CLASSES:
            model = _CLASSES[kind](config)
        else:
            model = hf.AutoModelForImageTextToText.from_config(config)
        model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    print("| model | billions, listed | counted | GB, listed | counted |\n|---|---|---|---|---|")
    for known in KNOWN:
        count = parameters(known.kind, CONFIGS[known.alias]()) / 1e9
        size = count * (4 if known.kind in _FOUR_BYTES else 2)
        print(
            f"| {known.alias} | {known.billions:g} | {count:.3f} "
            f"| {known.download_gb:g} | {size:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
