"""How likely given answers are to a model of transformers, after one look at the video."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from slowfast_mllm.engine.answer import Likelihood, without_control_tokens
from slowfast_mllm.engine.thoughts import CLOSED, opens_thought
from slowfast_mllm.model.transformers_names import CACHE

_Score = Callable[[list[list[int]]], Tensor]
# Tokens of the prompt that are held at once, once for each answer.
_TOGETHER = 16_384


def likelihoods(model: Any, clip: Any, question: str, answers: Sequence[str]) -> list[Likelihood]:
    """See `TransformersModel.likelihoods`; `clip` is what its `encode` returned."""
    message = model.user_message(question, True, len(clip.prompts))
    text = model.prompt([message], clip) if model.family.reads_questions else ""
    rows = [_answer_ids(model, answer, text) for answer in answers]
    prompt = model.prompt_ids([message], clip)
    if opens_thought(model.tokenizer, prompt):  # answers come after it
        prompt = prompt + model.tokenizer(CLOSED, add_special_tokens=False).input_ids
    score = _scorer(model, clip, prompt) if text else _decoder_scorer(model, clip)
    size = max(1, min(16, _TOGETHER // len(prompt)))
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [found for part in parts for found in _summed(model, score(part), part)]


def _answer_ids(model: Any, answer: str, prompt: str) -> list[int]:
    words = without_control_tokens(answer, model.control_tokens).strip()
    if not words:
        raise ValueError("An answer is empty; give words.")
    # "ASSISTANT:" is followed by a space, a line's end is not.
    space = " " if prompt.endswith(":") else ""
    ids: list[int] = model.tokenizer(space + words, add_special_tokens=False).input_ids
    return ids


def _scorer(model: Any, clip: Any, prompt: list[int]) -> _Score:
    """A function of rows of ids: logits (B, longest, V) of each of their tokens."""
    read = model.model(**model.arguments([clip], [prompt]), use_cache=True, logits_to_keep=1)
    first, cache = read.logits[:, -1:], read[CACHE]
    # Where tokens of a video share positions, there are fewer of these: kept by Qwen's families.
    moved = getattr(model.model.model, "rope_deltas", None)

    def score(rows: list[list[int]]) -> Tensor:
        logits = first.expand(len(rows), -1, -1)
        ids = padded([row[:-1] for row in rows], model.pad_id, "right").to(first.device)
        if not ids.shape[1]:
            return logits
        longer = copy.deepcopy(cache)
        longer.batch_repeat_interleave(len(rows))
        ones = [[1] * (len(prompt) + len(row) - 1) for row in rows]
        positions = torch.arange(ids.shape[1], device=ids.device) + len(prompt)
        positions = positions.expand(len(rows), -1)
        if moved is not None:
            positions = (positions + int(moved[0])).expand(3, -1, -1)
        later = model.model(
            input_ids=ids,
            attention_mask=padded(ones, 0, "right").to(ids.device),
            position_ids=positions,
            **{CACHE: longer},
        ).logits
        return torch.cat([logits, later], 1)

    return score


def _decoder_scorer(model: Any, clip: Any) -> _Score:
    """As `_scorer`, of a decoder that reads the video by cross-attention."""
    pixels = model.arguments([clip], [])["pixel_values"]
    seen = model.model.get_encoder()(pixel_values=pixels).last_hidden_state

    def score(rows: list[list[int]]) -> Tensor:
        ids = [[model.family.token_id, *row[:-1]] for row in rows]
        logits: Tensor = model.model(
            encoder_outputs=BaseModelOutput(seen.repeat(len(rows), 1, 1)),
            decoder_input_ids=padded(ids, model.pad_id, "right").to(seen.device),
        ).logits
        return logits

    return score


def _summed(model: Any, logits: Tensor, rows: list[list[int]]) -> list[Likelihood]:
    likely = logits.float().log_softmax(-1)
    ids = padded(rows, model.pad_id, "right").to(logits.device)
    each = likely.gather(-1, ids[..., None])[..., 0]
    first = likely.argmax(-1) == ids
    return [
        Likelihood(float(sums[: len(row)].sum()), len(row), bool(top[: len(row)].all()))
        for sums, top, row in zip(each, first, rows, strict=True)
    ]


def padded(rows: list[list[int]], value: int, side: str) -> Tensor:
    """(B, longest) of rows of ids."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)
