"""Published checkpoints load as they are, and both layouts can be written and read back."""

import json
import re
from pathlib import Path

import pytest
import torch
from golden_checkpoints import REDUCED, complete_folder, official_weights, sharded_folder
from safetensors.torch import load_file, save_file
from tiny_models import VIDEO_TOKEN, assert_close, greedy, pad, tiny_model, video
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM
from transformers.core_model_loading import revert_weight_conversion

from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.official_checkpoint import translate_config
from slowfast_mllm.model.whole_checkpoint import load_whole

MANIFEST = json.loads((REDUCED / "official_7b_manifest.json").read_text())
OFFICIAL_CONFIG = json.loads((REDUCED / "s1t4" / "config.json").read_text())
FULL_SIZE = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "mm_hidden_size": 3072,
    "cross_attn_every_n_layers": 8,
    "cross_attn_max_layer_depth": 28,
}
HEAD = "model.vision_tower.vision_tower.head."


@pytest.fixture
def official(tmp_path: Path) -> Path:
    (tmp_path / "official").mkdir()
    return complete_folder(REDUCED, "s1t4", tmp_path / "official")


def load(folder: Path, **options: object) -> SlowFastForConditionalGeneration:
    return load_whole(str(folder), **options).eval()


def logits(model: SlowFastForConditionalGeneration) -> Tensor:
    model.config.video_token_id = VIDEO_TOKEN
    ids = torch.tensor([[1, 5, *[VIDEO_TOKEN] * 16, 6, 7]])
    with torch.no_grad():
        return model(input_ids=ids, pixel_values_videos=video(16, size=64)[None]).logits


def load_full_size(names: dict[str, list[int]]) -> tuple[SlowFastForConditionalGeneration, dict]:
    """The 8.5-billion-parameter model, from a state dict without data."""
    weights = {n: torch.empty(s, device="meta", dtype=torch.bfloat16) for n, s in names.items()}
    config = SlowFastConfig.from_dict(translate_config(OFFICIAL_CONFIG | FULL_SIZE, {}))
    return SlowFastForConditionalGeneration.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        device_map="meta",
        dtype=torch.bfloat16,
        output_loading_info=True,
    )


def test_every_name_of_the_published_7b_checkpoint_is_mapped() -> None:
    model, report = load_full_size(MANIFEST)
    assert len(MANIFEST) == 743
    assert not any(report.values()), report
    assert model.num_parameters() > 8.4e9
    assert {p.device.type for p in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("official_name", "native_name"),
    [
        ("model.layers.8.self_attn.cross_attn_kv_proj.bias", "8.self_attn.cross_attn.k_proj.bias"),
        ("model.layers.0.self_attn.cross_attn_warm_up_gate", "layers.0.self_attn.cross_attn.gate"),
        ("model.vision_tower.vision_tower.stages.2.blocks.29.weight", "stages.2.blocks.29.gamma"),
        ("model.mm_projector.2.bias", "multi_modal_projector.2.bias"),
    ],
)
def test_a_name_that_is_absent_is_reported_missing(official_name: str, native_name: str) -> None:
    names = {name: shape for name, shape in MANIFEST.items() if name != official_name}
    assert len(names) == 742
    _, report = load_full_size(names)
    assert any(native_name in name for name in report["missing_keys"])


def test_a_name_that_is_unknown_is_reported() -> None:
    _, report = load_full_size(MANIFEST | {"model.layers.0.self_attn.extra.weight": [3]})
    assert len(report["unexpected_keys"]) == 1


def test_the_full_size_model_is_written_back_under_the_official_names_and_shapes() -> None:
    model, _ = load_full_size(MANIFEST)
    written = revert_weight_conversion(model, model.state_dict())
    assert {n: list(t.shape) for n, t in written.items()} == {
        n: s for n, s in MANIFEST.items() if not n.startswith(HEAD)
    }


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_was_not_downloaded_is_named(official: Path, content: bytes) -> None:
    (official / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not downloaded"):
        AutoConfig.from_pretrained(official)


def test_layer_scale_may_be_named_gamma(official: Path) -> None:
    expected = logits(load(official))
    path = official / "model.safetensors"
    weights = load_file(path)
    renamed = {re.sub(r"(blocks\.\d+)\.weight$", r"\1.gamma", n): w for n, w in weights.items()}
    assert sum(name.endswith("gamma") for name in renamed) == 5
    save_file(renamed, path, {"format": "pt"})
    assert_close(logits(load(official)), expected, atol=1e-5)


def test_keys_and_values_are_interleaved_per_head(official: Path) -> None:
    fused = official_weights()["model.layers.2.self_attn.cross_attn_kv_proj.weight"]
    cross = load(official).model.language_model.layers[2].self_attn.cross_attn
    width = fused.shape[0] // 4  # two heads, each first K then V
    first_k, first_v, second_k, second_v = fused.split(width)
    assert torch.equal(cross.k_proj.weight, torch.cat([first_k, second_k]))
    assert torch.equal(cross.v_proj.weight, torch.cat([first_v, second_v]))
    assert not torch.equal(cross.k_proj.weight, fused.chunk(2)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_shards(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = sharded_folder(tmp_path, dtype)
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    norm = official_weights()["model.layers.1.mlp.up_proj.weight"].to(dtype).float()
    assert torch.equal(model.model.language_model.layers[1].mlp.up_proj.weight, norm)
    assert model.config.vision_config.depths == [1, 1, 2, 1]  # read from the shards' headers
    assert load(folder).dtype == dtype  # what the config says, unless told otherwise


def test_official_to_native_layout(official: Path, tmp_path: Path) -> None:
    model = load(official)
    model.save_pretrained(tmp_path / "native")
    names = load_file(tmp_path / "native" / "model.safetensors")
    roots = ("model.language_model.", "model.vision_tower.", "model.multi_modal_projector.")
    assert all(name.startswith((*roots, "lm_head.")) for name in names)
    assert AutoConfig.from_pretrained(tmp_path / "native").model_type == "slowfast"
    assert_close(logits(load(tmp_path / "native")), logits(model), atol=1e-5)


def test_official_layout_is_written_back_bit_for_bit(official: Path, tmp_path: Path) -> None:
    load(official).save_pretrained(tmp_path / "back", save_original_format=True)
    written, original = load_file(tmp_path / "back" / "model.safetensors"), official_weights()
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], original[name]) for name in original)
    assert_close(logits(load(tmp_path / "back")), logits(load(official)), atol=1e-5)


def test_a_native_model_becomes_official_and_returns(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path / "official", save_original_format=True)
    names = load_file(tmp_path / "official" / "model.safetensors")
    assert "model.layers.0.self_attn.cross_attn_kv_proj.weight" in names
    again = load(tmp_path / "official")
    assert all(torch.equal(again.state_dict()[n], w) for n, w in model.state_dict().items())


def test_native_round_trip(tmp_path: Path) -> None:
    model = tiny_model("llama", motion_features=True, vision={"num_channels": 5})
    model.save_pretrained(tmp_path)
    again = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert (again.config.text_config.model_type, again.config.motion_features) == ("llama", True)
    assert all(torch.equal(again.state_dict()[n], w) for n, w in model.state_dict().items())


def test_generation_needs_no_generation_config_file(official: Path) -> None:
    model = load(official)
    assert not (official / "generation_config.json").exists()
    assert model.generation_config.eos_token_id == OFFICIAL_CONFIG["eos_token_id"]
    assert model.generation_config.bos_token_id == OFFICIAL_CONFIG["bos_token_id"]
    model.config.video_token_id = VIDEO_TOKEN
    prompt = pad([[1, *[VIDEO_TOKEN] * 16, 5]])
    assert greedy(model, 3, **prompt, pixel_values_videos=video(16, size=64)[None]).shape[1] <= 3


@pytest.mark.parametrize(
    ("num_frames", "stride", "pool"), [(64, 1, 4), (96, 1, 6), (128, 2, 4)], ids=str
)
def test_published_configurations(num_frames: int, stride: int, pool: int) -> None:
    fields = {
        "mm_training_video_frames": num_frames,
        "fast_token_temporal_sampling_stride": stride,
        "fast_token_temporal_stride": pool,
    }
    config = SlowFastConfig.from_dict(translate_config(OFFICIAL_CONFIG | FULL_SIZE | fields, {}))
    assert (config.fast_frame_stride, config.fast_temporal_pool) == (stride, pool)
    assert config.num_frames == num_frames
    assert (config.slow_spatial_pool, config.min_fast_frames) == (2, 16)
    assert config.hybrid_layers == [0, 8, 16, 24]
    assert config.vision_config.hidden_size == 3072
    assert config.vision_config.image_size == 576
    assert config.cross_attending_tokens == "text"
    assert (config.gate_activation, config.gate_scale) == ("tanh", "tanh")


def test_masksystem_attention_is_text_after_the_video() -> None:
    fields = {"cross_attn_implementation": "text-only-vanilla-masksystem-flashattn"}
    config = translate_config(OFFICIAL_CONFIG | fields, {})
    assert config["cross_attending_tokens"] == "text_after_video"


def test_an_unknown_tower_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="siglip-so400m"):
        translate_config(OFFICIAL_CONFIG | {"mm_vision_tower": "siglip-so400m"}, {})
