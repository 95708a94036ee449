"""A conversation about one video, turn by turn, or a single question of it."""

import time
from dataclasses import replace
from typing import Any

import torch
from transformers import CompileConfig, StaticCache
from transformers.cache_utils import Cache

from slowfast_mllm.engine.answer import Answer, OnText
from slowfast_mllm.engine.answers import Clock, Generation, RefuseNan, split_options
from slowfast_mllm.engine.beside import with_words
from slowfast_mllm.engine.encoded_video import AT_HAND, EncodedVideo
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.engine.reading import with_evidence
from slowfast_mllm.engine.stopping import StopAtStrings
from slowfast_mllm.model.hardware import suitable_threads
from slowfast_mllm.model.transformers_names import CACHE

_ROOM = 512  # tokens


class Chat:
    """Turns about one video. Keeps the messages and the key/value cache of what was said."""

    def __init__(self, assistant: LoadedModel, video: EncodedVideo) -> None:
        self.assistant = assistant
        self.video = video
        self.messages: list[dict[str, Any]] = []
        self._sequence: list[int] = []
        self._cache: Cache | None = None
        self._told: set[str] = set()  # beside questions before
        self._room = 0  # tokens that a static cache has room for

    def ask(self, question: str, on_text: OnText | None = None, **generation: Any) -> Answer:
        """The next turn.

        Args:
            on_text: called with each piece of the answer as it is made.
            **generation: fields of `Generation`.

        Raises:
            ValueError: the question is empty, or an option is unknown.
        """
        sampling, how = split_options(generation)
        if sampling:
            raise ValueError(f"{min(sampling)}: the frames were chosen when this chat began.")
        return self.answer(question, how, on_text)

    def answer(self, question: str, generation: Generation, on_text: OnText | None) -> Answer:
        """The next turn; see `ask`."""
        if generation.top_scores:
            raise ValueError("top_scores: told in batches (`generate`) only; leave it out.")
        told = generation.told(self.video)
        fresh = {name: words for name, words in told.items() if words not in self._told}
        words = with_words(question, fresh)
        first = all(message["role"] != "user" for message in self.messages)
        message = self.assistant.user_message(words, first)
        messages = [*self.messages, message]
        began = time.perf_counter()
        with suitable_threads(self.assistant.model.model.language_model):
            clock, new_ids, scores = self._generate(messages, generation, on_text)
        answer = self.assistant.answer(new_ids, self.video, clock, began, generation, scores)
        if generation.evidence:
            said_ids = (self._sequence, len(new_ids), self._cache)
            answer = with_evidence(answer, self.assistant, self.video, *said_ids)
        if answer.problem is None:
            self._told |= {*told.values()}
            said = self.assistant.without_control_tokens(answer.text)
            self.messages = [*messages, {"role": "assistant", "content": said}]
        self.video = replace(self.video, timing=AT_HAND)  # paid for by the first answer
        return answer

    def _generate(
        self, messages: list[dict[str, Any]], generation: Generation, on_text: OnText | None
    ) -> tuple[Clock, list[int], list[float]]:
        """Ids of the answer and, if asked for, the logarithms of their probabilities."""
        model = self.assistant.model
        ids = self.assistant.prompt_ids(messages, self.video)
        if self._sequence != ids[0, : len(self._sequence)].tolist():
            self._cache = None  # e.g. the answer was cut off in the middle of a character
        arguments, prompt = generation.arguments(), ids[0].tolist()
        tokenizer = self.assistant.processor.tokenizer
        own = generation.own_processors(
            tokenizer, self.assistant.end_ids, prompt, generation.max_new_tokens
        )
        clock = Clock(tokenizer, prompt, generation, on_text)
        if generation.stop:
            ending = (generation.stop, self.assistant.decode, len(prompt), clock.thinks)
            arguments["stopping_criteria"] = [StopAtStrings(*ending)]
        compiled = self.assistant.compile and generation.num_beams == 1
        if compiled:
            self._make_room(ids.shape[1] + generation.max_new_tokens)
            arguments["compile_config"] = _compilation()
        # An answer that is interrupted leaves a cache that fits nothing.
        cache, self._cache = self._cache if generation.num_beams == 1 else None, None
        if cache is None and generation.num_beams == 1:
            cache = self.assistant.beginnings.cache(self.video, ids)
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            video_memory=self.video.memory,
            **{CACHE: cache},
            streamer=clock if generation.num_beams == 1 else None,
            return_dict_in_generate=True,
            logits_processor=[RefuseNan(), *own],
            output_logits=generation.return_scores,
            **arguments,
        )
        # Beams reorder the cache as a whole; only a single path can be gone on with.
        self._cache = output[CACHE] if generation.num_beams == 1 else None
        types = model.model.token_types(ids)
        self.assistant.beginnings.keep(self.video, ids, types, self._cache)
        self._sequence = output.sequences[0].tolist()
        scores: list[float] = []
        if generation.return_scores:
            beams = output.beam_indices if generation.num_beams > 1 else None
            scores = model.compute_transition_scores(
                output.sequences, output.logits, beams, normalize_logits=True
            )[0].tolist()
        return clock, self._sequence[ids.shape[1] :], scores

    def _make_room(self, length: int) -> None:
        """A static cache for so many tokens, unless there is one: compiled graphs need its shape.

        Room is counted in steps, so that few shapes occur and each is compiled once.
        """
        if self._cache is None or self._room < length:
            self._room = -(-length // _ROOM) * _ROOM
            text = self.assistant.model.config.text_config
            self._cache = StaticCache(config=text, max_cache_len=self._room)


def _compilation() -> CompileConfig:
    """Let `generate` compile its decode steps, on CPUs too, which it does only when told so."""
    config = CompileConfig()
    config._compile_all_devices = True
    return config
