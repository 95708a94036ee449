#!/usr/bin/env bash
# outlines-core 0.2.14: bounds of numbers are left out of the expression that is made of a JSON Schema,
# and the parts of `allOf` are written one behind the other: the only texts that match are no JSON. Of
# neither is there an error or a warning, though other keywords (`not`) are refused.
# A guess would be: what cannot be held to is refused, and whatever matches is JSON that fits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet outlines-core==0.2.14
cat >"$folder/show.py" <<'PYTHON'
import json
import re
from importlib.metadata import version

from outlines_core.json_schema import build_regex_from_schema

bounded = {"type": "integer", "minimum": 1, "maximum": 5}
both = {
    "allOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
    ]
}
print("outlines-core", version("outlines-core"))
for_bounded = build_regex_from_schema(json.dumps(bounded))
print(bounded, "->", for_bounded)
print("  matches -12345:", bool(re.fullmatch(for_bounded, "-12345")))
assert re.fullmatch(for_bounded, "-12345"), "bounds are held to now"
for_both = build_regex_from_schema(json.dumps(both))
whole, pieces = '{"a": 1, "b": 2}', '{"a": 1}{"b": 2}'
print("allOf of two objects ->", for_both)
print(f"  matches {whole}:", bool(re.fullmatch(for_both, whole)))
print(f"  matches {pieces}:", bool(re.fullmatch(for_both, pieces)))
assert re.fullmatch(for_both, pieces) and not re.fullmatch(for_both, whole), "allOf is joined now"
try:
    build_regex_from_schema('{"not": {"type": "string"}}')
except ValueError as error:
    print("not ->", str(error).splitlines()[0])
else:
    raise AssertionError("`not` is taken now")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
