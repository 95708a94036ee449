"""How an answer is made, and how it is put together."""

import reprlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TextStreamer,
    TopPLogitsWarper,
)

from slowfast_mllm.engine.answer import Answer, OnText, Sampling, TokenScore
from slowfast_mllm.engine.beside import times_in_words
from slowfast_mllm.engine.stopping import UntilStop, before_stop
from slowfast_mllm.engine.structured import check_fits, constrained, schema_of
from slowfast_mllm.engine.thoughts import ToldApart, opens_thought, split_thought
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.video.names import short_name


@dataclass(frozen=True)
class Generation:
    """How an answer is made.

    Attributes:
        max_new_tokens: the longest answer.
        temperature: 0 takes the likeliest token each time; above that, tokens are drawn.
        top_p: draw among the likeliest tokens that hold this much probability.
        num_beams: search width.
        seed: makes a drawn answer repeatable, alone or in a batch; `ask` in several threads at once
            draws from one stream of random numbers.
        stop: strings; the answer ends before the first of them.
        logits_processor: called with ids (1, L) of prompt and answer so far and scores (1, V) of
            the next token, before one is drawn; returns scores. As those of transformers.
        return_scores: the answer says how likely each of its tokens was.
        top_scores: of so many of the likeliest tokens in each one's place, too; in batches.
        evidence: the answer says which frames it read, and where in them.
        schema: a JSON Schema, or a pydantic model, that the answer fits.
        on_thought: called with each piece of what the model thinks before it answers.
        times: the model is told in words how long the video is and when its frames are shown.
        facts: what is known of the video, in words that the model is told before the question, e.g.
            `facts_in_words`; the answer tells them apart from its own.

    Raises:
        ValueError: a number is out of range, a string to stop at is empty, or the schema is none.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    num_beams: int = 1
    seed: int | None = None
    stop: Sequence[str] = ()
    logits_processor: Sequence[LogitsProcessor] = ()
    return_scores: bool = False
    top_scores: int = 0
    evidence: bool = False
    schema: Any = None
    on_thought: OnText | None = field(default=None, repr=False)
    times: bool = False
    facts: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.facts, str | None):
            raise ValueError("facts: give words, e.g. those of facts_in_words.")
        if not _are_all(self.stop, lambda end: isinstance(end, str) and end != ""):
            raise ValueError(
                f"stop={self.stop!r:.100}: give a list of strings, none of them empty."
            )
        if not _are_all(self.logits_processor, callable):
            raise ValueError("logits_processor: give a list of functions of ids and scores.")
        ranges = (
            ("max_new_tokens", self.max_new_tokens, Integral, 1, 2**20),
            ("temperature", self.temperature, Real, 0, 100),
            ("top_p", self.top_p, Real, 0, 1),
            ("top_scores", self.top_scores, Integral, 0, 20),
            ("num_beams", self.num_beams, Integral, 1, 64),  # each holds keys and values
            ("seed", 0 if self.seed is None else self.seed, Integral, 0, 2**63 - 1),
        )
        for name, value, kind, least, most in ranges:
            if not isinstance(value, kind) or not least <= value <= most:
                raise ValueError(
                    f"{name}={reprlib.repr(value)}: give a number between {least} and {most}."
                )
        if self.schema is not None:
            object.__setattr__(self, "schema", schema_of(self.schema))
        if 0 < self.temperature < 1e-3:  # logits over so little are no numbers any more
            raise ValueError(f"temperature={self.temperature}: give 0, or at least 0.001.")

    def told(self, video: Any) -> dict[str, str]:
        """What the model is told beside the question, about what `encode` returned.

        Raises:
            ValueError: times are to be told of several videos.
        """
        told = {}
        if self.times:
            told["times"] = times_in_words(video.info.duration, video.timestamps)
        if self.facts is not None:
            told["facts"] = self.facts
        return told

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `generate`."""
        arguments: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            arguments |= {"temperature": float(self.temperature), "top_p": self.top_p, "top_k": 0}
        return arguments

    def own_processors(
        self, tokenizer: Any, end_ids: Iterable[int], prompt: Sequence[int], most: int
    ) -> list[LogitsProcessor]:
        """What is done to logits of this answer, or of those with equally long prompts.

        Args:
            prompt: ids, padding included.
            most: tokens that the answer may have.

        Raises:
            ValueError: no answer of this length fits the schema.
        """
        if self.schema is None:
            return [*self.logits_processor]
        thinks = opens_thought(tokenizer, prompt)
        held = constrained(self.schema, tokenizer, sorted(end_ids), len(prompt), most, thinks)
        return [*self.logits_processor, held]

    def processors(
        self, model: SlowFastForConditionalGeneration, own: Iterable[LogitsProcessor]
    ) -> LogitsProcessorList:
        """What is done to logits in a batch: `generation_config`'s repetition penalty, and these.

        In the order of `generate`, `own` as `own_processors` gives them.

        Rarer settings of a checkpoint's `generation_config` work in single questions only.
        """
        chain = LogitsProcessorList()
        penalty = model.generation_config.repetition_penalty
        if penalty not in (None, 1.0):
            chain.append(RepetitionPenaltyLogitsProcessor(penalty))
        chain.extend(own)
        if self.temperature > 0:
            chain.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_p < 1:
                chain.append(TopPLogitsWarper(self.top_p))
        return chain


def _are_all(values: Any, of_kind: Callable[[Any], bool]) -> bool:
    """Whether it is a list or tuple of such values."""
    return isinstance(values, list | tuple) and all(map(of_kind, values))


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], Generation]:
    """Fields of `Sampling`, and the rest as a `Generation`.

    Raises:
        ValueError: an option is unknown.
    """
    frames, answer = ([f.name for f in fields(kind)] for kind in (Sampling, Generation))
    unknown = sorted(set(options) - set(frames) - set(answer))
    if unknown:
        raise ValueError(
            f"Unknown option {short_name(unknown[0])!r}; known are {', '.join(frames)} for the "
            f"frames and {', '.join(answer)} for the answer."
        )
    sampling = {name: value for name, value in options.items() if name in frames}
    return sampling, Generation(**{n: v for n, v in options.items() if n in answer})


class RefuseNan(LogitsProcessor):
    """Ends an answer whose likeliest token is none: `generate` would say something all the same."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns `scores` (B, V) as they are.

        Raises:
            RuntimeError: the best of a row is no number.
        """
        if scores.amax(-1).isnan().any():
            raise RuntimeError(
                "The model computes no numbers (NaN): its weights are damaged, or too large for "
                "this precision; try float32."
            )
        return scores


class Clock(TextStreamer):
    """Passes thought and answer on as they come and notes when the first token came.

    Attributes:
        thinks: the prompt has opened a thought.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Sequence[int],
        generation: Generation,
        on_text: OnText | None,
    ) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.thinks = opens_thought(tokenizer, prompt)
        self.told = UntilStop(generation.stop, on_text or _nobody)
        self.apart = ToldApart(
            self.thinks,
            generation.on_thought or _nobody,
            lambda piece: self.told.put(piece, last=False),
        )
        self.first: float | None = None

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.first = self.first or time.perf_counter()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.apart.put(text, stream_end)
        if stream_end:
            self.told.put("", last=True)


def _nobody(text: str) -> None:
    pass


def compose_answer(
    model: str,
    tokenizer: Any,
    new_ids: list[int],
    video: Any,
    clock: Clock,
    began: float,
    generation: Generation,
    log_probabilities: list[float],
    likeliest: Sequence[list[tuple[int, float]]] = (),
) -> Answer:
    """Ids to words, and how long it took from `began` to now.

    Args:
        video: what `encode` returned, of either kind of model.
        likeliest: ids and log-probabilities of the likeliest tokens in each one's place.

    Raises:
        ValueError: the answer does not fit the schema.
    """
    ended = time.perf_counter()
    first = clock.first or ended
    spoken = split_thought(tokenizer.decode(new_ids, skip_special_tokens=True), clock.thinks)
    text = before_stop(spoken.answer, generation.stop)
    truncated = (
        len(new_ids) >= generation.max_new_tokens
        and new_ids[-1] not in tokenizer.all_special_ids
        and text == spoken.answer
    )
    text = text.strip()
    problem, data, warnings = None, None, list(video.info.warnings)
    if not spoken.is_over:
        problem = (
            f"no answer: after {len(new_ids)} tokens the model was still thinking; allow more "
            "(max_new_tokens)."
        )
        warnings.append(problem)
    elif generation.schema is not None:
        data = check_fits(text, generation.schema)
        if truncated:
            warnings.append(
                f"values are cut for the whole to fit into max_new_tokens={len(new_ids)}."
            )
    return Answer(
        text="" if problem else text,
        model=model,
        info=video.info,
        frame_indices=video.frame_indices,
        timestamps=video.timestamps,
        timing={
            **video.timing,
            "prefill": first - began,
            "decode": ended - first,
            "tokens": len(new_ids),
        },
        warnings=warnings,
        scores=_scores(tokenizer, new_ids, log_probabilities, likeliest)
        if generation.return_scores
        else None,
        truncated=truncated,
        frame_choice=video.frame_choice,
        thought=None if spoken.thought is None else spoken.thought.strip(),
        data=data,
        problem=problem,
        told=generation.told(video),
    )


def _scores(
    tokenizer: Any,
    ids: Sequence[int],
    log_probabilities: Sequence[float],
    likeliest: Sequence[list[tuple[int, float]]],
) -> list[TokenScore]:
    def told(token: int, score: float, others: Sequence[tuple[int, float]] = ()) -> TokenScore:
        return TokenScore(
            token, tokenizer.decode([token]), score, tuple(told(*other) for other in others)
        )

    places = likeliest or [[]] * len(ids)
    return [told(*row) for row in zip(ids, log_probabilities, places, strict=True)]
