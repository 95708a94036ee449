"""Loads checkpoints of other families than ours, and says why one cannot be loaded.

Code that comes with a checkpoint never runs: what needs it is refused, with one that does the job.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.utils import cached_file

from slowfast_mllm.engine.families import FAMILIES, Family, OwnProcessor
from slowfast_mllm.engine.loading import (
    ModelError,
    Quantization,
    computes_wide,
    load_ready,
    loading_options,
    on_paper,
    pick_device,
    unusable,
)
from slowfast_mllm.engine.spreading import AUTO, TENSOR_PARALLEL
from slowfast_mllm.engine.transformers_model import TransformersModel
from slowfast_mllm.model.adapters import base_of_adapter
from slowfast_mllm.model.whole_checkpoint import check_path
from slowfast_mllm.model.wide_compute import compute_in_float32

_CATALOG = json.loads((Path(__file__).parent / "own_code.json").read_text(encoding="utf-8"))
_SETTINGS = {
    "video_processor": ("video_preprocessor_config.json", "preprocessor_config.json"),
    "image_processor": ("preprocessor_config.json",),
}


def is_of_transformers(path: str) -> bool:
    """Whether it is a checkpoint of a family that `load_transformers` loads.

    Raises:
        ModelError: it is one that would need code of its own.
    """
    facts = _facts(path)
    kind = facts.get("model_type")
    takes_videos = kind in VIDEO_PROCESSOR_MAPPING_NAMES
    if kind in FAMILIES or (takes_videos and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        return True
    if "auto_map" in facts and kind not in CONFIG_MAPPING_NAMES and kind not in _ours():
        raise ModelError(_refusal(path, facts))
    return False


def _ours() -> set[str]:
    from slowfast_mllm.model import SlowFastConfig
    from slowfast_mllm.model.official_checkpoint import OfficialSlowFastConfig

    return {SlowFastConfig.model_type, OfficialSlowFastConfig.model_type}


def _facts(path: str) -> dict[str, Any]:
    """The config file as it is; nothing where there is none to be read, which loading will tell."""
    try:
        check_path(path)
        facts, _ = PreTrainedConfig.get_config_dict(base_of_adapter(path) or path)
    except Exception:
        return {}
    return facts


def _refusal(path: str, facts: dict[str, Any]) -> str:
    names = " ".join([str(facts.get("model_type")), *facts.get("architectures", []), path]).lower()
    instead = next((m for m in _CATALOG["refused"] if m["sign"] in names), _CATALOG["any"])
    return (
        f"{path}: needs program code that comes with it ({', '.join(facts['auto_map'])}), and such "
        f"code is never run here; for {instead['job']} use {instead['instead']}."
    )


def describe_transformers(path: str) -> dict[str, Any]:
    """Facts about a checkpoint that `is_of_transformers`, from its config alone.

    Raises:
        ModelError: it is damaged.
    """
    try:
        config = AutoConfig.from_pretrained(base_of_adapter(path) or path, trust_remote_code=False)
        parameters = sum(p.numel() for p in on_paper(config).parameters())
    except Exception as error:  # damaged files raise what they like
        raise unusable(path, error) from error
    text, rules = config.get_text_config(decoder=True), FAMILIES.get(config.model_type)
    return {
        "model": path,
        "family": config.model_type,
        "parameters": parameters,
        "language_model": text.model_type,
        "num_layers": text.num_hidden_layers,
        "longest_prompt": text.max_position_embeddings,
        "needs_torchvision": rules is None,
        "weights_bfloat16_gb": round(2 * parameters / 1e9, 4),
    }


def load_transformers(
    path: str,
    device: str | None = None,
    dtype: str | None = None,
    quantize: Quantization | None = None,
) -> TransformersModel:
    """Load a checkpoint that `is_of_transformers`.

    Args:
        path: folder or hub id, also of an adapter.
        device: as torch names it, or "auto": spread over all there are; None: CUDA or the CPU.
        dtype, quantize: as for `load_checkpoint`.

    Raises:
        ModelError: it is damaged or incomplete, or something is not installed that it needs.
    """
    try:
        family = _family(base_of_adapter(path) or path)
    except ModelError:
        raise
    except Exception as error:  # damaged files raise what they like
        raise unusable(path, error) from error
    config = family.config
    spread = device == AUTO
    if device == TENSOR_PARALLEL:
        raise ModelError(f"--device tp: for Slow-Fast models only, and {path} is none; use auto.")
    target = pick_device(None if spread else device)
    options = loading_options(config, target, dtype, quantize)
    if isinstance(options.get("quantization_config"), BitsAndBytesConfig):
        options["quantization_config"].llm_int8_skip_modules = _beside_decoder(config)
    if spread:
        if importlib.util.find_spec("accelerate") is None:
            raise ModelError("--device auto: needs accelerate; `pip install accelerate`.")
        options["device_map"] = "auto"
    network: Any = load_ready(path, options)
    if "device_map" not in options:
        network.to(target)
        if str(network.dtype) == "torch.bfloat16" and computes_wide(target):
            compute_in_float32(network)
    _forget_defaults(network)
    return TransformersModel(network, family, path)


def _family(path: str) -> Family:
    """The rules of a checkpoint's family, with its tokenizer."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    rules = FAMILIES.get(config.model_type)
    if rules is not None:
        family = rules(config, _settings(path, rules), _tokenizer(path, config))
    elif importlib.util.find_spec("torchvision") is None:
        raise ModelError(
            f"{path}: pictures for a {config.model_type!r} model are made with torchvision; "
            'install it with `pip install "slowfast-mllm[torchvision]"`.'
        )
    else:
        family = OwnProcessor(config, AutoProcessor.from_pretrained(path, trust_remote_code=False))
    _check_template(family)
    return family


def _forget_defaults(network: PreTrainedModel) -> None:
    """Questions say how they are answered; what is left is what ends and begins an answer."""
    config = network.generation_config
    config.do_sample = False
    config.temperature = config.top_p = config.top_k = None
    config.max_length = config.min_length = None
    config.use_cache, config.cache_implementation = True, None


def _beside_decoder(config: PreTrainedConfig) -> list[str]:
    """Modules that are not quantized: all but the layers of the language model."""
    network: Any = on_paper(config)
    decoder = network.get_decoder()
    inside = next(name for name, module in network.named_modules() if module is decoder)
    parts = inside.split(".")
    way = {".".join(parts[: i + 1]) for i in range(len(parts))}
    names = {name for name, _ in network.named_modules()}
    beside = {n for n in names if n.rpartition(".")[0] in {"", *way} - {inside} and n not in way}
    return sorted(beside - {""})


def _tokenizer(path: str, config: Any) -> Any:
    kind = config.get_text_config(decoder=True).model_type
    try:
        # Captioners are published without a tokenizer and say which to take in words.
        known = kind != "gpt2" or _json(path, "tokenizer.json")
        place = path if known else "openai-community/gpt2"
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"{path}: has no usable tokenizer; put the files of its language model ({kind}) into a "
            "copy of it."
        ) from error
    template = _json(path, "chat_template.json")  # as older checkpoints keep it
    if tokenizer.chat_template is None and template:
        tokenizer.chat_template = template["chat_template"]
    return tokenizer


def _check_template(family: Family) -> None:
    """Whether the template brings the placeholder, before weights are read."""
    if not family.reads_questions:
        return
    content = [dict(family.part), {"type": "text", "text": "Hello"}]
    text = family.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    if family.marker not in text:
        raise ValueError(f"its chat template knows no videos: {family.marker} is not in the prompt")


def _settings(path: str, family: type[Family]) -> dict[str, Any]:
    """Of pictures, from wherever the checkpoint has them."""
    nested = _json(path, "processor_config.json").get(family.settings_of)
    if nested is not None:
        return dict(nested)
    return next(filter(None, (_json(path, name) for name in _SETTINGS[family.settings_of])), {})


def _json(path: str, name: str) -> dict[str, Any]:
    """A file of a checkpoint; nothing where it has none."""
    file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
