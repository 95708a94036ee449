"""Adapters of peft: folders load like checkpoints, and memories know them; quantized parts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from slowfast_mini import WEIGHTS
from slowfast_mllm import ModelError, SlowFast, load
from slowfast_mllm.engine.loading import convert_checkpoint

peft = pytest.importorskip("peft")
BaseTunerLayer = pytest.importorskip("peft.tuners.tuners_utils").BaseTunerLayer

CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
QUESTION = "What happens?"
EVERYTHING = r".*(cross_attn\.[kv]_proj|self_attn\.\w_proj|multi_modal_projector\.[02])"


def adapted(**options: object) -> "peft.PeftModel":
    """The packaged model with an adapter that changes what it says."""
    config = peft.LoraConfig(r=4, **options)
    model = peft.get_peft_model(load(device="cpu", dtype="float32").model, config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.12 * torch.randn(weight.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module", params=[{}, {"use_dora": True}, {"target_modules": EVERYTHING}])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple["peft.PeftModel", str]:
    """LoRA by default, DoRA, and LoRA of the slow path too; the model and its folder."""
    folder = tmp_path_factory.mktemp("adapter")
    model = adapted(**request.param)
    model.save_pretrained(folder)
    return model, str(folder)


def test_folders_of_adapters_are_loaded(pair: tuple["peft.PeftModel", str]) -> None:
    model, folder = pair
    loaded = load(folder, device="cpu", dtype="float32")
    assert not any("lora" in name for name in loaded.model.state_dict())
    encoded = loaded.encode(CLIP, num_frames=8)
    wrapped = SlowFast(model, loaded.processor)
    inside = wrapped.encode(CLIP, num_frames=8)
    torch.testing.assert_close(
        encoded.memory.fast_tokens, inside.memory.fast_tokens, atol=1e-4, rtol=1e-4
    )
    answer = loaded.ask(encoded, QUESTION, max_new_tokens=12).text
    assert wrapped.ask(inside, QUESTION, max_new_tokens=12).text == answer
    with model.disable_adapter():
        wrapped = SlowFast(model, loaded.processor)
        assert wrapped.ask(inside, QUESTION, max_new_tokens=12).text != answer


def test_memories_know_the_adapter() -> None:
    model = adapted(target_modules=EVERYTHING)
    processor = load(device="cpu").processor
    prints = {SlowFast(model, processor).fingerprint}
    with model.disable_adapter():
        prints.add(SlowFast(model, processor).fingerprint)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.scaling["default"] *= 2
    prints.add(SlowFast(model, processor).fingerprint)
    prints.add(SlowFast(model.merge_and_unload(), processor).fingerprint)
    prints.add(load(device="cpu").fingerprint)
    assert len(prints) == 5


def test_adapters_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    adapted().save_pretrained(folder)

    def changed(name: str, **fields: object) -> Path:
        copy = shutil.copytree(folder, tmp_path / name)
        file = copy / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return copy

    truncated = changed("truncated") / "adapter_model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    (changed("lacking") / "adapter_model.safetensors").unlink()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "adapter_config.json").write_text("{")
    for path, words in (
        (changed("nameless", base_model_name_or_path=None), "base_model_name_or_path"),
        (changed("lost", base_model_name_or_path="/no/such/model"), "no such folder"),
        (changed("circle", base_model_name_or_path=str(folder)), "an adapter too"),
        (changed("missing", target_modules=["q_proj", "multi_modal_projector.0"]), "adapter"),
        (changed("elsewhere", target_modules=["no_such_layer"]), "no_such_layer"),
        (truncated.parent, "an adapter of"),
        (tmp_path / "lacking", r"no adapter_model\.safetensors in its folder"),
        (tmp_path / "damaged", "adapter_config.json is damaged"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            load(path, device="cpu")
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    prompts = peft.get_peft_model(
        load(device="cpu").model,
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    with pytest.raises(ValueError, match="adapter of prompts"):
        SlowFast(prompts, load(device="cpu").processor)


def test_an_adapter_becomes_a_checkpoint(tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path / "adapter")
    convert_checkpoint(str(tmp_path / "adapter"), tmp_path / "whole")
    one, other = (load(tmp_path / name, device="cpu").model for name in ("adapter", "whole"))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight.bfloat16(), other.state_dict()[name].bfloat16()), name


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_plain_quantizing_spares_all_but_the_language_model(kind: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    asked = BitsAndBytesConfig(load_in_8bit=kind == "int8", load_in_4bit=kind == "nf4")
    model = AutoModelForImageTextToText.from_pretrained(
        WEIGHTS, quantization_config=asked, dtype=torch.float32
    )
    layers = (bitsandbytes.nn.Linear8bitLt, bitsandbytes.nn.Linear4bit)
    changed = {name for name, module in model.named_modules() if isinstance(module, layers)}
    language = model.config.text_config.num_hidden_layers
    assert len(changed) == 7 * language
    assert not any("cross_attn" in name or "language_model" not in name for name in changed)
    assert asked.llm_int8_skip_modules is None
    assistant = SlowFast(model, load(device="cpu").processor)
    assert assistant.ask(CLIP, QUESTION, num_frames=8, max_new_tokens=4).text


def test_a_saved_quantized_model_is_loaded_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    first = load(device="cpu", dtype="bfloat16", quantize="nf4")
    first.model.save_pretrained(tmp_path)
    first.processor.save_pretrained(tmp_path)
    again = load(tmp_path, device="cpu")
    told = [a.ask(CLIP, QUESTION, num_frames=8, max_new_tokens=8).text for a in (first, again)]
    assert told[0] == told[1]
    for options in ({"quantize": "int8"}, {"dtype": "float32"}):
        with pytest.raises(ModelError, match="quantized already, with bfloat16"):
            load(tmp_path, device="cpu", **options)
