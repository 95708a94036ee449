"""Answers that fit a JSON Schema: while they are made, and checked as a whole afterwards.

Tokens that lead away from the schema are never chosen, nor those after which the rest would not
fit into the length any more; so whatever the model says, the JSON is whole.
"""

import functools
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from slowfast_mllm.engine.automaton import Automaton, vocabulary
from slowfast_mllm.engine.json_expression import expression
from slowfast_mllm.engine.thoughts import CLOSED, split_thought

_UNBOUNDED = ("pattern", "min", "max")  # words of a schema that few letters make large
_LONG = 20_000  # letters of an expression that may take seconds to prepare
_LONGEST_STRING = 128  # tokens, of one that the schema does not bound
_FOR_VALUES = 64  # tokens that a thought leaves beside the fewest that an answer needs


def schema_of(schema: Any) -> dict[str, Any]:
    """A schema as a value: of a pydantic model, or as `json.loads` gives it.

    Raises:
        ValueError: it is none, or what is needed for it is not installed.
    """
    if hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    if not isinstance(schema, dict):
        raise ValueError("schema: give a JSON Schema, an object like {'type': 'object', ...}.")
    if not all(importlib.util.find_spec(name) for name in ("outlines_core", "jsonschema")):
        raise ValueError("schema: needs outlines-core; `pip install 'slowfast-mllm[schema]'`.")
    try:
        _expression(json.dumps(schema))
    except (TypeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"schema: no JSON ({error}).") from error
    return schema


@functools.lru_cache(maxsize=32)
def _expression(schema: str) -> str:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    known = json.loads(schema)
    try:
        validator_for(known).check_schema(known)
    except SchemaError as error:
        raise ValueError(f"schema: no JSON Schema ({_told(error)}).") from error
    written = expression(known)
    written.encode()
    return written


@functools.lru_cache(maxsize=16)
def _automaton(schema: str, tokenizer: Any) -> Automaton:
    try:
        written = _expression(schema)
        apart = len(written) > _LONG or any(f'"{word}' in schema for word in _UNBOUNDED)
        return Automaton(written, vocabulary(tokenizer), apart)
    except ValueError as error:
        raise ValueError(
            f"schema: cannot be held to ({str(error).strip():.200}); use smaller bounds and "
            "plainer patterns."
        ) from error


def check_fits(text: str, schema: dict[str, Any]) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not whole, or does not fit the schema.
    """
    from jsonschema.validators import validator_for

    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"schema: the answer is no whole JSON ({error}).") from error
    problem = next(validator_for(schema)(schema).iter_errors(value), None)
    if problem is not None:
        raise ValueError(f"schema: the model's answer does not fit it ({_told(problem)}).")
    return value


def _told(problem: Any) -> str:
    """One line about an error of jsonschema: where, and what."""
    where = problem.json_path.removeprefix("$").removeprefix(".")
    what = " ".join(problem.message.split())
    return f"{where}: {what:.200}" if where else f"{what:.200}"


@dataclass(frozen=True)
class _Place:
    """Where an answer is.

    Attributes:
        state: of the automaton; None: in a thought.
        loop, run: the string without bounds that it was last in, and for how many tokens.
    """

    state: int | None
    loop: int = 0
    run: int = 0


class Constraint(LogitsProcessor):
    """Holds the answers of a batch to a schema; of one call of `generate`, or one sequence."""

    def __init__(
        self,
        automaton: Automaton,
        tokenizer: Any,
        end_ids: Sequence[int],
        prompt_length: int,
        max_new_tokens: int,
        thinks: bool,
    ) -> None:
        self._automaton = automaton
        self._tokenizer = tokenizer
        self._end_ids = list(end_ids)
        self._prompt_length = prompt_length
        self._most = max_new_tokens
        self._first = _Place(None if thinks else automaton.start)
        self._closing: list[int] = tokenizer(CLOSED, add_special_tokens=False).input_ids
        self._places: dict[tuple[int, ...], _Place] = {}
        self._thought_ends = max_new_tokens - int(automaton.needs[automaton.start])
        if thinks:
            spare = min(_FOR_VALUES, self._thought_ends // 2)
            self._thought_ends -= len(self._closing) + spare
        if self._thought_ends < 0:
            raise ValueError(
                f"schema: its shortest answer has {max_new_tokens - self._thought_ends} tokens, "
                f"and max_new_tokens is {max_new_tokens}; allow more."
            )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) of next tokens, -inf where they may not come."""
        rows = [tuple(row) for row in input_ids[:, self._prompt_length :].tolist()]
        # Only the last step's are kept: beams change places, and nothing else comes back.
        self._places = {row: self._place(row) for row in rows}
        masks = [self._allowed(row, scores.shape[-1]) for row in rows]
        allowed = torch.from_numpy(np.stack(masks)).to(scores.device)
        return scores.masked_fill(~allowed, -torch.inf)

    def _place(self, ids: tuple[int, ...]) -> _Place:
        if not ids:
            return self._first
        before = self._places.get(ids[:-1]) or self._place(ids[:-1])
        if before.state is None:
            thought = split_thought(self._tokenizer.decode(ids), opened=True)
            return _Place(self._automaton.start) if thought.is_over else before
        state = self._automaton.walk(before.state, ids[-1:])
        if not self._automaton.loops[state]:
            return _Place(state, before.loop, before.run)
        return _Place(state, state, before.run + 1 if state == before.loop else 1)

    def _allowed(self, ids: tuple[int, ...], size: int) -> np.ndarray:
        """(V,) bool."""
        place, allowed = self._places[ids], np.zeros(size, dtype=bool)
        if place.state is None:
            forced = len(ids) - self._thought_ends
            if forced < 0:
                allowed[:] = True
                allowed[self._end_ids] = False
            else:
                allowed[self._closing[min(forced, len(self._closing) - 1)]] = True
            return allowed
        automaton = self._automaton
        needs = automaton.needs[automaton.after(place.state)]
        most = self._most - len(ids) - 1
        if automaton.loops[place.state] and place.run >= _LONGEST_STRING:
            most = min(most, int(automaton.needs[place.state]) - 1)
        fitting = (needs <= most)[:size]
        allowed[: len(fitting)] = fitting
        if automaton.is_end[place.state] or place.state == 0:  # at 0 are rows that have ended
            allowed[self._end_ids] = True
        return allowed


def constrained(
    schema: Any,
    tokenizer: Any,
    end_ids: Sequence[int],
    prompt_length: int,
    max_new_tokens: int,
    thinks: bool = False,
) -> Constraint:
    """A processor of logits that holds an answer to a schema, and to a length as a whole.

    Args:
        schema: a JSON Schema, or a pydantic model.
        end_ids: tokens that end an answer.
        prompt_length: ids before the answer, padding included.
        thinks: the prompt has opened a thought; the JSON begins after its end.

    Raises:
        ValueError: the schema is none, cannot be held to, or needs more tokens than that.
    """
    automaton = _automaton(json.dumps(schema_of(schema)), tokenizer)
    return Constraint(automaton, tokenizer, end_ids, prompt_length, max_new_tokens, thinks)
