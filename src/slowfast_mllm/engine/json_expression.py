"""From a JSON Schema to a regular expression of JSON that fits it, bounded where the schema is not.

What an expression cannot hold (`not`, `uniqueItems`, ...) is left to the check of the whole answer.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

# Where the schema says nothing: items of an array and pairs of an object (fewer inside others),
# digits, levels of nesting.
_ITEMS, _FREE, _WHOLE, _FRACTION, _LEVELS = 16, 8, 15, 4, 2
_TURNS = 2  # of a definition inside itself
_MOST_WRITTEN = 1_000_000  # letters of all ways to leave properties out
_LARGEST = 1000  # what may be asked for at least: items, characters
# Strings are counted in the automaton, where every character is a handful of states.
_LONGEST, _LONGEST_OF_MANY = 200, 40

_PLAIN = r'[^"\\\x00-\x1f\x7f]'
_CHARACTER = rf'(?:{_PLAIN}|\\["\\/bfnrt])'
_COMMA, _COLON = ", ?", ": ?"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
_FORMATS = {
    "date": _DATE,
    "time": _CLOCK + "Z",
    "date-time": f"{_DATE}T{_CLOCK}Z",
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
# What stands for characters in a pattern, without those that would end or break a string.
_CLASSES = {".": _PLAIN, r"\d": "[0-9]", r"\w": "[A-Za-z0-9_]", r"\s": " "}
_CLASSES |= {r"\D": r'[^"\\\x00-\x1f\x7f0-9]', r"\W": r'[^"\\\x00-\x1f\x7fA-Za-z0-9_]'}
_CLASSES |= {r"\S": r'[^"\\\x00-\x20\x7f]'}
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\.")  # escapes, classes and dots
_KINDS = {
    "properties": "object",
    "additionalProperties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "pattern": "string",
    "maxLength": "string",
    "minimum": "number",
    "maximum": "number",
}


class _EndlessError(ValueError):
    """A schema that is deeper than what is written."""


def expression(schema: Any) -> str:
    """A regular expression of JSON texts that fit a schema, though not of all of them.

    Objects have their properties in the order of the schema, and no others where it names any.

    Args:
        schema: valid, as `json.loads` gives it.

    Raises:
        ValueError: nothing fits it, or only what is endlessly deep, or too large.
    """
    return f"[ \\n]{{0,2}}{_Writer(schema).value(schema, 0)}"


class _Writer:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._inside: list[str] = []  # references that are being followed

    def value(self, schema: Any, depth: int) -> str:
        """Of one schema, in so many arrays or free objects."""
        if schema is False:
            raise ValueError("schema: nothing fits `false`.")
        if schema is True:
            schema = {}
        if "$ref" in schema:
            return self._referred(schema, depth)
        if "allOf" in schema:
            return self.value(_merged(schema, self._resolved), depth)
        if "const" in schema or "enum" in schema:
            return _one_of(_literal(v) for v in schema.get("enum", [schema.get("const")]))
        for name in ("anyOf", "oneOf"):
            if name in schema:
                rest = {key: value for key, value in schema.items() if key != name}
                return self._any_of([_joined(rest, option) for option in schema[name]], depth)
        kind = schema.get("type") or next((k for key, k in _KINDS.items() if key in schema), None)
        if kind is None:
            return self._anything(depth)
        if isinstance(kind, list):
            return self._any_of([{**schema, "type": one} for one in kind], depth)
        return self._of_kind(kind, schema, depth)

    def _of_kind(self, kind: str, schema: dict[str, Any], depth: int) -> str:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return _string(schema, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        return "(?:true|false)" if kind == "boolean" else "null"

    def _referred(self, schema: dict[str, Any], depth: int) -> str:
        name = schema["$ref"]
        if self._inside.count(name) >= _TURNS:
            raise _EndlessError(f"schema: {name} holds itself without end.")
        self._inside.append(name)
        try:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self.value(_joined(rest, self._resolved(schema)), depth)
        finally:
            self._inside.pop()

    def _resolved(self, schema: Any) -> Any:
        """What a schema refers to, where it does."""
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        name, found = schema["$ref"], self._root
        if not name.startswith("#"):
            raise ValueError(f"schema: $ref {name[:60]!r} is somewhere else; put it under $defs.")
        try:
            for part in filter(None, name[1:].split("/")):
                part = part.replace("~1", "/").replace("~0", "~")
                found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ValueError(f"schema: $ref {name[:60]!r} is not there.") from None
        return found

    def _any_of(self, options: Iterable[Any], depth: int) -> str:
        return _one_of(self._possible(options, depth))

    def _possible(self, options: Iterable[Any], depth: int) -> list[str]:
        """Those that end; if none does, whatever is wrong with the last."""
        written, problem = [], ValueError("schema: no option fits.")
        for option in options:
            try:
                written.append(self.value(option, depth))
            except ValueError as error:
                problem = error
        if not written:
            raise problem
        return written

    def _anything(self, depth: int) -> str:
        kinds: list[dict[str, Any]] = [{"type": k} for k in ("string", "number", "boolean", "null")]
        if depth < _LEVELS:
            kinds += [{"type": "object", "maxProperties": 4}, {"type": "array", "maxItems": 4}]
        return self._any_of(kinds, depth)

    def _array(self, schema: dict[str, Any], depth: int) -> str:
        least, most = _bounds(schema, "Items", max(2, _ITEMS >> 2 * depth))
        first = [self.value(of, depth + 1) for of in schema.get("prefixItems", ())]
        if first:
            least, most = max(0, least - len(first)), max(0, least - len(first))
        try:
            item = self.value(schema.get("items", True), depth + 1) if most else ""
        except _EndlessError:
            if least:
                raise
            most = 0
        items = _COMMA.join([*first, *([item] if most else [])])
        if most > 1:
            items += f"(?:{_COMMA}{item}){{{max(0, least - 1)},{most - 1}}}"
        return rf"\[{items}\]" if least or first else rf"\[(?:{items})?\]"

    def _object(self, schema: dict[str, Any], depth: int) -> str:
        required = schema.get("required", ())
        properties = {name: True for name in required} | schema.get("properties", {})
        in_order = [*schema.get("properties", {}), *required]
        pairs = []
        for name in dict.fromkeys(in_order):
            try:
                value = self.value(properties[name], depth)
            except ValueError:
                if name in required:
                    raise
                continue
            pairs.append((_literal(name) + _COLON + value, name in required))
        return rf"\{{{_in_order(pairs) if pairs else self._free(schema, depth)}\}}"

    def _free(self, schema: dict[str, Any], depth: int) -> str:
        """Pairs of an object that names none."""
        values = schema.get("additionalProperties", True)
        if values is False:
            return ""
        pair = _string({}, depth) + _COLON + self.value(values, depth + 1)
        least, most = _bounds(schema, "Properties", max(2, _FREE >> depth))
        more = f"(?:{_COMMA}{pair}){{{max(0, least - 1)},{max(0, most - 1)}}}"
        return pair + more if least else f"(?:{pair}{more})?"


def _one_of(options: Iterable[str]) -> str:
    return f"(?:{'|'.join(dict.fromkeys(options))})"


def _literal(value: Any) -> str:
    return re.escape(json.dumps(value, ensure_ascii=False))


def _joined(one: Any, other: Any) -> Any:
    """A schema that asks for what both ask."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if other is True else other
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _merged(schema: dict[str, Any], resolved: Callable[[Any], Any]) -> Any:
    """A schema without its `allOf`."""
    merged: Any = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        merged = _joined(merged, resolved(part))
    return merged


def _in_order(pairs: list[tuple[str, bool]]) -> str:
    """Pairs with commas between them; those that are not required may be left out."""
    first = next((i for i, (_, required) in enumerate(pairs) if required), None)
    if first is None:
        if sum(len(pair) * (i + 1) for i, (pair, _) in enumerate(pairs)) > _MOST_WRITTEN:
            raise ValueError("schema: too many properties of which none is required; require one.")
        ways = [pair + _after(pairs[i + 1 :]) for i, (pair, _) in enumerate(pairs)]
        return f"{_one_of(ways)}?"
    before = "".join(f"(?:{pair}{_COMMA})?" for pair, _ in pairs[:first])
    return before + pairs[first][0] + _after(pairs[first + 1 :])


def _after(pairs: list[tuple[str, bool]]) -> str:
    return "".join(f"(?:{_COMMA}{pair}){'' if required else '?'}" for pair, required in pairs)


def _bounds(schema: dict[str, Any], of: str, most: int) -> tuple[int, int]:
    """Fewest and most of something: what the schema says, but no more than so many."""
    least = int(schema.get(f"min{of}", 0))
    told = int(schema.get(f"max{of}", most))
    if least > min(told, _LARGEST) and (told < least or least > _LARGEST):
        raise ValueError(f"schema: min{of} {least} is more than can be met.")
    return least, max(least, min(told, most))


def _string(schema: dict[str, Any], depth: int) -> str:
    if "pattern" in schema:
        return f'"{_pattern(schema["pattern"])}"'
    if schema.get("format") in _FORMATS:
        return f'"{_FORMATS[schema["format"]]}"'
    least, most = _bounds(schema, "Length", _LONGEST_OF_MANY if depth else _LONGEST)
    if "maxLength" in schema:
        return f'"{_CHARACTER}{{{least},{most}}}"'
    return f'"{_CHARACTER}{{{least},}}"' if least else f'"{_CHARACTER}*"'


def _pattern(pattern: str) -> str:
    """All of a string, not a part of it, without what would end it before."""

    def written(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith("[^"):
            return r'[^"\\\x00-\x1f\x7f' + text[2:]
        return _CLASSES.get(text, text)

    inner = pattern.removeprefix("^")
    if inner.endswith("$") and not inner.endswith(r"\$"):
        inner = inner[:-1]
    return f"(?:{_PARTS.sub(written, inner)})"


def _number(schema: dict[str, Any], whole: bool) -> str:
    """With so many digits at most, and between the bounds where they are whole numbers."""
    limit = 10**_WHOLE - 1
    low = max(-limit, schema.get("minimum", -limit), schema.get("exclusiveMinimum", -limit))
    high = min(limit, schema.get("maximum", limit), schema.get("exclusiveMaximum", limit))
    if whole:
        least, most = math.ceil(low), math.floor(high)
        least += least == schema.get("exclusiveMinimum")
        most -= most == schema.get("exclusiveMaximum")
        if least > most:
            raise ValueError(f"schema: no integer is between {low} and {high}.")
        return _one_of(_signed(least, most, lambda a, b: [_between(a, b)]))
    if low > high:
        raise ValueError(f"schema: no number is between {low} and {high}.")
    least, most = math.ceil(low), math.floor(high)
    if least > most:  # as from 0.2 to 0.8: what is beyond is found when all is checked
        least, most = math.floor(low), math.ceil(high)
    return _one_of(_signed(least, most, _with_fraction))


def _signed(least: int, most: int, between: Callable[[int, int], list[str]]) -> list[str]:
    ways = []
    if most >= 0:
        ways += between(max(0, least), most)
    if least < 0:
        ways += [f"-{way}" for way in between(max(0, -most), -least)]
    return ways


def _with_fraction(least: int, most: int) -> list[str]:
    inside = [_between(least, most - 1) + rf"(?:\.[0-9]{{1,{_FRACTION}}})?"] if least < most else []
    return [*inside, str(most)]


def _between(least: int, most: int) -> str:
    """Digits of the numbers from one to another, neither below 0."""
    ways = []
    for digits in range(len(str(least)), len(str(most)) + 1):
        first = max(least, 10 ** (digits - 1) if digits > 1 else 0)
        ways.append(_of_length(str(first), str(min(most, 10**digits - 1))))
    return _one_of(ways)


def _of_length(least: str, most: str) -> str:
    """As `_between`, where both have as many digits."""
    if not least:
        return ""
    if least == "0" * len(least) and most == "9" * len(most):
        return f"[0-9]{{{len(least)}}}"
    rest = len(least) - 1
    a, b = int(least[0]), int(most[0])
    if a == b:
        return least[0] + _of_length(least[1:], most[1:])
    ways = []
    if least[1:] != "0" * rest:
        ways.append(least[0] + _of_length(least[1:], "9" * rest))
        a += 1
    if most[1:] != "9" * rest:
        ways.append(most[0] + _of_length("0" * rest, most[1:]))
        b -= 1
    if a <= b:
        ways.append(f"[{a}-{b}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return _one_of(ways)
