"""Answers that fit a JSON Schema, whatever a model would say: whole, within the length, or refused
in one line."""

import json
import sys
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
from pydantic import BaseModel, Field
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from slowfast_cli.main import main
from slowfast_mllm import load
from slowfast_mllm.engine import Request, automaton_table
from slowfast_mllm.engine.structured import constrained

pytest.importorskip("outlines_core")
jsonschema = pytest.importorskip("jsonschema")
CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
SEEN = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "white"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 12},
        "words": {"type": "string"},
    },
    "required": ["color", "count", "words"],
    "additionalProperties": False,
}


class Thing(BaseModel):
    name: str = Field(max_length=8)
    sure: float = Field(ge=0, le=1)
    parts: "list[Thing] | None" = None


SCHEMAS = {
    "object": SEEN,
    "of optional fields": {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 'x"y'}},
        "required": ["b"],
        "additionalProperties": False,
    },
    "list": {"type": "array", "items": {"type": "number", "minimum": -3.5, "maximum": 20}},
    "list of bounds": {
        "type": "array",
        "items": {"type": "integer", "exclusiveMinimum": 95, "maximum": 1104},
        "minItems": 2,
        "maxItems": 3,
    },
    "no bounds": {"type": "object"},
    "anything": {},
    "patterns": {"type": "array", "items": {"type": "string", "pattern": "^[^a-y]{1,3}.\\d$"}},
    "dates": {"type": "string", "format": "date"},
    "either": {"anyOf": [{"type": "string", "minLength": 3, "maxLength": 5}, {"type": "null"}]},
    "all of": {
        "allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"type": "integer"}}}],
        "required": ["b"],
        "$defs": {"a": {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}},
    },
    "pydantic, inside itself": Thing.model_json_schema(),
    "names beyond ASCII": {"enum": ["貓", "a\\b", '"', "🙂"]},
}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_checkpoints._tokenizer()


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer as SentencePiece makes them: "▁" for blanks, and bytes by their numbers."""
    words = ['"', "{", "}", "[", "]", ",", ":", "▁", "▁red", "red", "white", "貓", "\\", "<s>"]
    words += [chr(c) for c in range(97, 123)] + [*"0123456789.-"]
    words += [f"<0x{byte:02X}>" for byte in range(256)]
    plain = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
    plain.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<s>")


def drawn(schema, tokenizer, most: int, seed: int) -> list[int]:
    """An answer of a model that says anything, up to its end or to the longest."""
    end, prompt = tokenizer.eos_token_id, [5, 6]
    draw = torch.Generator().manual_seed(seed)
    held = constrained(schema, tokenizer, [end], len(prompt), most)
    ids: list[int] = []
    while len(ids) < most and ids[-1:] != [end]:
        scores = held(torch.tensor([prompt + ids]), torch.zeros(1, len(tokenizer)))
        ids.append(int(torch.multinomial(scores.softmax(-1), 1, generator=draw)))
    return [token for token in ids if token != end]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_whatever_is_drawn_is_whole_and_fits(tokenizer, kind: str) -> None:
    schema = SCHEMAS[kind]
    for seed in range(6):
        ids = drawn(schema, tokenizer, 150, seed)
        jsonschema.validate(json.loads(tokenizer.decode(ids)), schema)


@pytest.mark.parametrize("kind", ["object", "pydantic, inside itself", "names beyond ASCII"])
def test_tokens_may_be_spelled_in_other_ways(spaced, kind: str) -> None:
    for seed in range(6):
        ids = drawn(SCHEMAS[kind], spaced, 150, seed)
        jsonschema.validate(json.loads(spaced.decode(ids)), SCHEMAS[kind])


def test_the_length_is_kept_up_to_the_last_token(tokenizer) -> None:
    fewest = len(tokenizer('{"color":"red","count":1,"words":""}').input_ids)
    for most in (fewest, fewest + 1, fewest + 9):
        for seed in range(4):
            ids = drawn(SEEN, tokenizer, most, seed)
            jsonschema.validate(json.loads(tokenizer.decode(ids)), SEEN)
    with pytest.raises(ValueError, match=f"shortest answer has {fewest} tokens.*is {fewest - 1}"):
        drawn(SEEN, tokenizer, fewest - 1, 0)


def test_a_string_without_bounds_leaves_room_for_the_rest(tokenizer) -> None:
    """Of a model that would never end it."""
    held = constrained(SEEN, tokenizer, [tokenizer.eos_token_id], 0, 1000)
    ids = tokenizer('{"color":"red","count":1,"words":"').input_ids
    while ids[-1] != tokenizer.eos_token_id:
        scores = torch.zeros(1, len(tokenizer))
        scores[0, tokenizer("a").input_ids[0]] = 1
        ids.append(int(held(torch.tensor([ids]), scores).argmax()))
    assert len(json.loads(tokenizer.decode(ids[:-1]))["words"]) == 127


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "objct"}, "no JSON Schema"),
        ("text", "give a JSON Schema"),
        ({"properties": {f"p{n}": {} for n in range(3000)}, "type": "object"}, "require one"),
        ({"type": "array", "minItems": 5000}, "more than can be met"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no integer is between"),
        ({"$ref": "https://example.com/x"}, "somewhere else"),
        ({"$ref": "#/$defs/x"}, "not there"),
        ({"type": "string", "pattern": "(?=a)b"}, "plainer patterns"),
        ({"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}},
                          "required": ["a"]}}, "$ref": "#/$defs/a"}, "without end"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_met_is_refused_in_one_line(tokenizer, schema, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refusal:
        constrained(schema, tokenizer, [1], 0, 100)
    assert "\n" not in str(refusal.value)


def test_a_pattern_of_states_without_end_is_given_up_in_time(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(automaton_table, "_SECONDS", 1.0)
    endless = {"type": "string", "pattern": "^[a-z]*a[a-z]{25}$"}
    with pytest.raises(ValueError, match=r"takes more than 1 s to prepare.*smaller bounds"):
        constrained(endless, tokenizer, [1], 0, 100)


def test_what_is_missing_is_named(tokenizer, monkeypatch) -> None:
    find = "slowfast_mllm.engine.structured.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'slowfast-mllm\[schema\]'"):
        constrained(SEEN, tokenizer, [1], 0, 100)


@pytest.mark.parametrize("family", ["packaged", "qwen2_vl"])
def test_a_batch_fits_and_one_that_does_not_fails_alone(family: str, tmp_path: Path) -> None:
    model = load(None if family == "packaged" else tiny_checkpoints.write(family, tmp_path))
    clip = model.encode(CLIP, num_frames=2)
    odd = {"type": "integer", "minimum": 3, "maximum": 5, "not": {"maximum": 9}}
    options = {"max_new_tokens": 60, "schema": SEEN}
    requests = [
        Request(clip, "What is red?", options=options),
        Request(clip, "What is red?", options={"schema": odd}),
        Request(clip, "What color is the heart, and which way does it go?", options=options),
        Request(clip, "What is red?", options={"max_new_tokens": 3}),
    ]
    first, failed, second, plain = model.generate(requests)
    assert str(failed).startswith("schema: the model's answer does not fit it")
    assert plain.data is None
    for answer, request in ((first, requests[0]), (second, requests[2])):
        jsonschema.validate(answer.data, SEEN)
        assert answer.to_dict()["data"] == json.loads(answer.text)
        assert model.ask(clip, request.question, **options).text == answer.text
    beams = model.ask(clip, "What is red?", num_beams=2, **options)
    drawn = model.ask(clip, "What is red?", temperature=1.0, seed=1, **options)
    for answer in (beams, drawn):
        jsonschema.validate(answer.data, SEEN)


def test_the_command_line_takes_schemas_in_files(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = load(device="cpu")
    for module in ("answering", "caption"):
        monkeypatch.setattr(f"slowfast_cli.{module}.load_model", lambda *_, **__: model)

    def run(verb: str, *words: str) -> tuple[int, str, str]:
        line = ["slowfast", verb, CLIP, *words, "--num-frames", "2"]
        monkeypatch.setattr(sys, "argv", line)
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    file, output = tmp_path / "seen.json", tmp_path / "out.jsonl"
    file.write_text(json.dumps(SEEN))
    short = ("--max-new-tokens", "50")
    code, out, _ = run("ask", "What is red?", "--schema", str(file), *short, "--stream")
    assert code == 0
    jsonschema.validate(json.loads(out), SEEN)
    code, out, err = run("describe", "--schema", str(file), "--max-new-tokens", "5")
    assert (code, out) == (1, "")
    assert err.startswith("Error: schema: its shortest answer has")
    either = json.dumps({"enum": ["red", "white"]})
    assert run("caption", "--schema", either, "-o", str(output))[0] == 0
    line = json.loads(output.read_text())
    assert json.loads(line["caption"]) == line["data"]
    assert line["data"] in ("red", "white")
    code, _, err = run("caption", "--schema", json.dumps({"enum": ["red"]}), "-o", str(output))
    assert code == 1
    assert "made before with other settings" in err
    for wrong in ("gone.json", "{", "[]", '{"type": "objct"}'):
        code, out, _ = run("ask", "What is red?", "--schema", wrong)
        assert (code, out) == (2, "")
    assert run("caption", "--schema", either, "--dense")[0] == 2
