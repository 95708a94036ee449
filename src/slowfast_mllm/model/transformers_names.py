"""What transformers has renamed between the oldest and the newest version that is supported.

A cache of keys and values is `cache` since 5.24 and was `past_key_values`. Our own signatures say
`cache`; whoever hands one to transformers, or takes one from an output, does so by `CACHE`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.deprecation import deprecate_kwarg

_OLDER = "past_key_values"
CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else _OLDER
# `gradient_checkpointing_enable` before 5.23.
HAS_ACTIVATION_CHECKPOINTING = hasattr(PreTrainedModel, "activation_checkpointing_enable")


def takes_either_name(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method with a parameter `cache` also takes it by its older name.

    Where that is still the name, without a word; later with the warning of transformers.
    """
    if CACHE != _OLDER:
        renamed: Callable[..., Any] = deprecate_kwarg(_OLDER, "5.40.0", new_name=CACHE)(method)
        return renamed

    @functools.wraps(method)
    def renaming(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _OLDER in kwargs:
            kwargs["cache"] = kwargs.pop(_OLDER)
        return method(self, *args, **kwargs)

    # `generate` looks up here what a model takes.
    signature = inspect.signature(method)
    parameters = [
        p.replace(name=_OLDER) if p.name == "cache" else p for p in signature.parameters.values()
    ]
    renaming.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return renaming
