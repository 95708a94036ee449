#!/usr/bin/env bash
# outlines-core 0.2.14: an Index of a JSON string with at most so many characters takes twice as long
# for each character more, and of a schema that says nothing but "object" minutes, with a vocabulary
# of 256 single bytes. With one byte before the expression that occurs nowhere else, the same takes
# milliseconds: the automaton is also made to find the expression in the middle of a text, where each
# quote may be the first. Anchors (^, \A) are refused.
# A guess would be: such an expression is matched from its beginning, and costs in proportion.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet outlines-core==0.2.14
cat >"$folder/show.py" <<'PYTHON'
import json
import time
from importlib.metadata import version

from outlines_core import Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema

TOKENS = Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)})


def seconds(expression: str) -> tuple[float, int]:
    began = time.process_time()
    index = Index(expression, TOKENS)
    return time.process_time() - began, len(index.get_transitions())


print("outlines-core", version("outlines-core"))
plain, begun = {}, {}
for most in (6, 8, 10, 12):
    schema = {"type": "string", "maxLength": most}
    expression = build_regex_from_schema(json.dumps(schema))
    (plain[most], states), (begun[most], _) = seconds(expression), seconds(rf"\x01{expression}")
    print(f"maxLength {most}: {states} states")
    print(f"  {plain[most]:.3f} s, with \\x01 before it {begun[most]:.3f} s")
longer = {"type": "string", "maxLength": 100}
spent, states = seconds(rf"\x01{build_regex_from_schema(json.dumps(longer))}")
print(f"maxLength 100, with \\x01 before it: {states} states, {spent:.3f} s")
assert plain[12] > 6 * plain[8], "four characters more do not cost many times as much now"
assert plain[12] > 10 * begun[12], "a beginning of its own makes no difference now"
try:
    Index(r"\A[0-9]", TOKENS)
except ValueError as error:
    print(r"\A[0-9] ->", error)
else:
    raise AssertionError("anchors are taken now")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
