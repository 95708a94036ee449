"""Reads a recipe's YAML file, and checks its sections against dataclasses key by key."""

import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from slowfast_mllm.processing.keys import unknown_key

Section = TypeVar("Section")


class RecipeError(ValueError):
    """A recipe that cannot be read, with the file and the key that is wrong."""


def read_recipe(path: str | Path) -> Any:
    """What a recipe's file holds, unchecked.

    Raises:
        RecipeError: the file is missing, or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason}).") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise RecipeError(f"{path}: not valid YAML ({line}).") from error


def check_names(names: Sequence[str], path: str | Path) -> None:
    """A stage's name is its folder."""
    if not names:
        raise RecipeError(f"{path}: stages: none given.")
    for i, name in enumerate(names):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise RecipeError(f"{path}: stages[{i}]: name: {name!r} cannot be that of a folder.")
        if name in names[:i]:
            raise RecipeError(f"{path}: stages[{i}]: name: {name!r} is taken already.")


def choices(given: list[Any], known: tuple[Any, ...], where: str) -> None:
    """Refuse what is not known."""
    for value in given:
        if value not in known:
            raise RecipeError(f"{where}: unknown {value!r}; known are {', '.join(known)}.")


def section(kind: type[Section], content: Any, where: str) -> dict[str, Any]:
    """Check the keys of one mapping against a dataclass, and give its values in the right kinds.

    Raises:
        RecipeError: an unknown or missing key, or a value of another kind or out of its range.
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: expected `key: value` lines, found {type(content).__name__}.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if wrong := unknown_key(content, known):
        raise RecipeError(f"{where}: {wrong}")
    missing = [
        n
        for n, f in known.items()
        if f.default is MISSING and f.default_factory is MISSING and n not in content
    ]
    if missing:
        raise RecipeError(f"{where}: missing key {missing[0]!r}.")
    hints = get_type_hints(kind)
    checked = {
        name: _checked(value, hints[name], f"{where}: {name}") for name, value in content.items()
    }
    for name, value in checked.items():
        if name == "path" and not value:  # it would stand for the folder of the command
            raise RecipeError(f"{where}: path: empty.")
        if value is not None and name in _ABOVE_ZERO and not value > 0:
            raise RecipeError(f"{where}: {name}: {value}; give a number above 0.")
        if value is not None and name in _FROM_ZERO and not value >= 0:
            raise RecipeError(f"{where}: {name}: {value}; give a number from 0 on.")
    return checked


_ABOVE_ZERO = {
    *("epochs", "clips", "batch_size", "questions_per_clip", "gradient_accumulation"),
    *("learning_rate", "muon_learning_rate", "slow_learning_rate", "weight", "temperature"),
    *("num_answers", "max_new_tokens", "num_frames", "max_length", "logging_steps", "image_size"),
    *("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "vocab_size"),
}
_FROM_ZERO = {"seed", "first_seed", "warmup", "warmup_steps", "weight_decay", "beta", "lora_rank"}
_FOUND = {str: "text", list: "a list", dict: "`key: value` lines", bool: "true or false"}


def _checked(value: Any, hint: Any, where: str) -> Any:
    """A value of the kind that its field has; what is inside a dataclass is checked elsewhere."""
    parts = get_args(hint)
    if get_origin(hint) in (UnionType, Union):  # a Literal or None is typing's own
        if value is None:
            return None
        hint = next(part for part in parts if part is not NoneType)
        parts = get_args(hint)
    if get_origin(hint) is Literal:
        choices([value], parts, where)
    if hint in (int, float):
        return _number(value, hint, where)
    kind = get_origin(hint) or hint
    if kind in _FOUND and not isinstance(value, kind):
        raise RecipeError(f"{where}: expected {_FOUND[kind]}, found {type(value).__name__}.")
    if kind is list:
        return [_checked(item, parts[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return {key: _checked(item, parts[1], f"{where}: {key}") for key, item in value.items()}
    return value


def _number(value: Any, wanted: type[int] | type[float], where: str) -> int | float:
    """Numbers as numbers: YAML takes `1e-4` for words."""
    try:
        number = wanted(value)
        if isinstance(value, bool) or number != float(value) or not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(
            f"{where}: {value!r} is not a number of kind {wanted.__name__}."
        ) from error
    return number
