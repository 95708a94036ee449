"""What makes a saved folder say which package opens it, where this package was not imported.

`auto_map` in its config files leads transformers to a file of two lines. A program that imported
the package never looks at it: what is registered goes first, and needs no `trust_remote_code`.
"""

import os
from pathlib import Path
from typing import Any

_NAME = "slowfast_shim"
_MODEL = "SlowFastForConditionalGeneration"
MODEL_AUTO_MAP = {
    "AutoConfig": f"{_NAME}.SlowFastConfig",
    "AutoModel": f"{_NAME}.SlowFastModel",
    "AutoModelForImageTextToText": f"{_NAME}.{_MODEL}",
    "AutoModelForMultimodalLM": f"{_NAME}.{_MODEL}",
}
PROCESSOR_AUTO_MAP = {"AutoProcessor": f"{_NAME}.SlowFastProcessor"}
_TEXT = f'''"""A Slow-Fast model: needs the package slowfast-mllm (pip install slowfast-mllm)."""

from slowfast_mllm import (
    SlowFastConfig,
    {_MODEL},
    SlowFastModel,
    SlowFastProcessor,
)
from slowfast_mllm.auto import register

__all__ = [
    "SlowFastConfig",
    "{_MODEL}",
    "SlowFastModel",
    "SlowFastProcessor",
]

register()
'''


def write_shim(folder: str | os.PathLike[str]) -> None:
    """Put the file into a folder that exists."""
    Path(folder, f"{_NAME}.py").write_text(_TEXT, encoding="utf-8")


def register_nothing(cls: type, *_: Any, **__: Any) -> None:
    """In place of a class's `register_for_auto_class`, which transformers calls of classes found
    through `auto_map`: from then on it copies their source beside what is saved, and a copy of one
    file of this package would not load."""
