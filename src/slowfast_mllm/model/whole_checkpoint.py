"""Loads a checkpoint whole or not at all: what is missing would be random, and answers invented."""

from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText

from slowfast_mllm.model.modeling_slowfast import SlowFastForConditionalGeneration


def load_whole(path: str, **options: Any) -> SlowFastForConditionalGeneration:
    """`from_pretrained` for files that may be damaged.

    Args:
        path: folder or hub id, native or official layout.
        **options: of `from_pretrained`.

    Raises:
        ValueError: files are missing or damaged, or weights are missing or of another shape than
            the config says. One line, without the path.
    """
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(lines[0].rstrip(".")[:200]) from error
    for what, names in (
        ("missing", sorted(report["missing_keys"])),
        ("of another shape than the config says", sorted(map(_name, report["mismatched_keys"]))),
    ):
        if names:
            raise ValueError(
                f"{len(names)} weights are {what}, {names[0]} first: files of another model, or an "
                "incomplete copy"
            )
    return model


def _name(key: Any) -> str:
    """Of a mismatched weight, which comes with its two shapes."""
    return key if isinstance(key, str) else key[0]
