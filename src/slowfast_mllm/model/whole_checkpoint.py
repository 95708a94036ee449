"""Loads a checkpoint whole or not at all: what is missing would be random, and answers invented."""

import os
from typing import Any

from transformers import AutoModelForImageTextToText

from slowfast_mllm.model.adapters import base_of_adapter, with_adapter
from slowfast_mllm.model.modeling_slowfast import SlowFastForConditionalGeneration


def first_line(error: Exception) -> str:
    """What another library's error says, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def check_path(path: str) -> None:
    """Whether it can be a checkpoint's, before anything is asked of a hub.

    Raises:
        ValueError: it leads to no checkpoint. One line, without the path.
    """
    files = ("config.json", "adapter_config.json")
    there = os.path.exists(path)
    if there and not any(os.path.isfile(os.path.join(path, name)) for name in files):
        raise ValueError("no config.json in it; give the folder of a checkpoint")
    if not there and (path.count("/") != 1 or path.startswith((".", "/"))):
        raise ValueError("no such folder, and not a hub id like `owner/name`")


def checked_base(path: str) -> str | None:
    """As `base_of_adapter`, of a checkpoint that may be there.

    Raises:
        ValueError: the adapter's files are damaged, or it leads to no checkpoint. One line, without
            the path.
    """
    base = base_of_adapter(path)
    if base is not None:
        try:
            check_path(base)
            if base_of_adapter(base) is not None:
                raise ValueError("an adapter too")
        except ValueError as error:
            raise ValueError(f"an adapter of {base}: {error}") from error
    return base


def load_whole(path: str, **options: Any) -> SlowFastForConditionalGeneration:
    """`from_pretrained` for files that may be damaged.

    Args:
        path: folder or hub id, native or official layout, or of an adapter of peft.
        **options: of `from_pretrained`.

    Raises:
        ValueError: as `check_path`; files are missing or damaged, or weights are missing or of
            another shape than the config says. One line, without the path.
    """
    check_path(path)
    base = checked_base(path)
    if base is not None:
        try:
            return with_adapter(load_whole(base, **options), path)
        except Exception as error:
            raise ValueError(f"an adapter of {base}: {first_line(error)}") from error
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            path,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # damaged files raise what they like
        raise ValueError(first_line(error)) from error
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
