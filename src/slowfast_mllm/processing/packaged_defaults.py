"""A processor for checkpoints that bring none: what to read from their other files."""

from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import PROCESSOR_NAME, cached_file

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig

_WHERE = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "token",
    "revision",
    "subfolder",
    "trust_remote_code",
)
# Qwen2's, which a checkpoint with a bare tokenizer.json leaves unsaid.
_END_OF_TURN, _PADDING = "<|im_end|>", "<|endoftext|>"


def has_processor_files(path: str, kwargs: dict[str, Any]) -> bool:
    """Whether a folder or hub id holds `processor_config.json`."""
    where = {k: v for k, v in _where(kwargs).items() if k != "trust_remote_code"}
    found = cached_file(path, PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False, **where)
    return found is not None


def load_config_and_tokenizer(
    path: str, kwargs: dict[str, Any]
) -> tuple[SlowFastConfig, PreTrainedTokenizerBase]:
    """What `SlowFastProcessor.from_config` needs of a checkpoint, native or official.

    Args:
        kwargs: of `from_pretrained`; those that say where files are found are used.

    Raises:
        OSError: there is no config.json, or no tokenizer.
        ValueError: it is not a Slow-Fast checkpoint.
    """
    config = AutoConfig.from_pretrained(path, **_where(kwargs))
    if not isinstance(config, SlowFastConfig):
        raise ValueError(
            f"{path}: a {config.model_type!r} checkpoint without {PROCESSOR_NAME}; the packaged "
            "processor is for Slow-Fast checkpoints only."
        )
    tokenizer = AutoTokenizer.from_pretrained(path, **_where(kwargs))
    vocabulary = tokenizer.get_vocab()
    if tokenizer.eos_token is None and _END_OF_TURN in vocabulary:
        tokenizer.eos_token = _END_OF_TURN
    if tokenizer.pad_token is None:
        if _PADDING in vocabulary:
            tokenizer.pad_token = _PADDING
            tokenizer.padding_side = "left"  # prompts of a batch must end together to be answered
        else:
            tokenizer.pad_token = tokenizer.eos_token
    return config, tokenizer


def without_where(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `from_pretrained` that do not say where files are found."""
    return {n: v for n, v in kwargs.items() if n not in _WHERE and not n.startswith("_")}


def _where(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in _WHERE if name in kwargs}
