"""Models that are known by a short name, and what a model would cost before it is there.

The sizes in `models.json` are rounded; `benchmarks/model_sizes.py` counts them. A checkpoint's own
files say it exactly.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

PACKAGED = "slowfast-mini"  # what is called so comes with the program
# Families made for several videos in a prompt: as `families` says, for which torch would be needed.
_SEVERAL = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl", "gemma3")


@dataclass(frozen=True)
class KnownModel:
    """A published checkpoint.

    Attributes:
        billions: of parameters.
        download_gb: gigabytes (10^9 bytes) of its files.
        kind: `model_type` of its config; "slowfast" for ours.
    """

    alias: str
    id: str
    billions: float
    download_gb: float
    licence: str
    kind: str

    @property
    def weights_gb(self) -> float:
        """Gigabytes that the weights take in bfloat16."""
        return round(2 * self.billions, 1)

    @property
    def can(self) -> tuple[str, ...]:
        """What it can do here."""
        if self.kind == "vision-encoder-decoder":
            return ("describe",)
        if self.kind == "slowfast":
            return ("ask", "chat", "memory")
        return ("ask", "chat", "several videos") if self.kind in _SEVERAL else ("ask", "chat")


_FILE = Path(__file__).parent / "models.json"
KNOWN = tuple(KnownModel(**facts) for facts in json.loads(_FILE.read_text(encoding="utf-8")))
_BY_NAME = {name: known for known in KNOWN for name in (known.alias, known.id)}


def resolved(model: str) -> str:
    """The id of an alias; any other name as it is, and so is a folder that is called so."""
    known = _BY_NAME.get(model)
    return model if known is None or os.path.exists(model) else known.id


def checkpoint_of(model: str) -> str | None:
    """What is loaded by that name: as `resolved`, and None for the packaged model."""
    return None if model == PACKAGED and not os.path.exists(model) else resolved(model)


def is_cached(model: str) -> bool:
    """Whether it is a folder, or its config lies in the hub's cache on this machine."""
    return os.path.exists(model) or isinstance(try_to_load_from_cache(model, "config.json"), str)


def would_download(model: str) -> str | None:
    """What loading a model would fetch, in words; None: nothing, it is here (or no hub id)."""
    model = resolved(model)
    if model.count("/") != 1 or model.startswith((".", "/")) or is_cached(model):
        return None
    known = _BY_NAME.get(model)
    if known is None:
        return f"{model}, of unknown size"
    return f"{model}, about {known.download_gb:g} GB, licence {known.licence}"
