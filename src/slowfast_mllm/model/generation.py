"""How `generate` of transformers drives a Slow-Fast model: videos are encoded once, before the
first token, and each step gets the part of the memory that its positions need.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.candidate_generator import CandidateGenerator

from slowfast_mllm.model.transformers_names import CACHE, takes_either_name
from slowfast_mllm.model.video_memory import TEXT, MemoryBatch, VideoMemory, Videos


class Prescribed(LogitsProcessor):
    """An answer that is known beforehand, in some rows of a batch."""

    def __init__(self, answer: Sequence[int], rows: Tensor, prompt_length: int) -> None:
        """
        Args:
            answer: ids; the last is repeated.
            rows: (B,), True for those that get the answer.
        """
        self.answer = answer
        self.rows = rows
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B * beams, V) that leave no choice in these rows."""
        step = min(input_ids.shape[1] - self.prompt_length, len(self.answer) - 1)
        only = torch.full_like(scores, -torch.inf)
        only[:, self.answer[step]] = 0
        rows = self.rows.to(scores.device).repeat_interleave(len(scores) // len(self.rows))
        return torch.where(rows[:, None], only, scores)


class DraftOfWords(CandidateGenerator):
    """Drafts of a model that knows no placeholders: it gets another id there, which is masked."""

    def __init__(self, drafts: CandidateGenerator, is_text: Tensor) -> None:
        """
        Args:
            is_text: (1, L), False at placeholders of the prompt.
        """
        self.drafts = drafts
        self.is_text = is_text

    def get_candidates(
        self, input_ids: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(1, L + candidates) ids and their logits, as every generator of candidates gives."""
        is_text = F.pad(self.is_text, (0, input_ids.shape[1] - self.is_text.shape[1]), value=True)
        words = input_ids.masked_fill(~is_text, int(input_ids[is_text][0]))
        ids, logits = self.drafts.get_candidates(words, *args, **kwargs)
        ids = ids.to(input_ids.device)
        return torch.cat([input_ids, ids[:, input_ids.shape[1] :]], dim=1), logits

    def update_candidate_strategy(self, *args: Any, **kwargs: Any) -> None:
        self.drafts.update_candidate_strategy(*args, **kwargs)


class SlowFastGenerationMixin(GenerationMixin):
    """For a model with `model` (a `SlowFastModel`) and `config`."""

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        *args: Any,
        pixel_values_videos: Videos | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        video_timestamps: Videos | None = None,
        video_frame_mask: Videos | None = None,
        video_memory: VideoMemory | Sequence[VideoMemory] | MemoryBatch | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`; videos are encoded here, once, before the first token.

        Rows without video and image get `answer_without_vision` of the config, if it has one.
        An `assistant_model` that is a Slow-Fast model itself encodes the same pixels for itself;
        one of another kind drafts from the words alone.

        Raises:
            ValueError: a prompt has other placeholders than there are videos and images, or a
                Slow-Fast `assistant_model` is given without pixels to encode.
        """
        input_ids = kwargs.pop("input_ids", inputs)
        if input_ids is not None:
            types = kwargs.get("mm_token_type_ids")
            if types is None:
                types = self.model.token_types(input_ids)
            kwargs["mm_token_type_ids"] = types  # a chunk of the prompt needs the rest's
            blind, answer = (types == TEXT).all(1), self.config.answer_without_vision
            if answer and blind.any():
                said = Prescribed(answer, blind, input_ids.shape[1])
                logits_processor = [*(logits_processor or ()), said]
            seen = (pixel_values_videos, pixel_values, video_timestamps, video_frame_mask)
            draft = kwargs.get("assistant_model")
            with torch.no_grad():
                kwargs["video_memory"] = self.model.remember_all(types, *seen, video_memory)
                if isinstance(draft, SlowFastGenerationMixin):
                    if video_memory is not None:
                        raise ValueError(
                            "A Slow-Fast assistant_model cannot use video_memory, which is this "
                            "model's; give generate() pixel_values_videos instead."
                        )
                    kwargs["draft_memory"] = draft.model.remember_all(types, *seen)
        elif any(x is not None for x in (video_memory, pixel_values_videos, pixel_values)):
            raise ValueError("generate() with videos needs `input_ids`, not `inputs_embeds`.")
        return super().generate(input_ids, generation_config, logits_processor, *args, **kwargs)

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        input_ids, kwargs = super()._expand_inputs_for_generation(expand_size, *args, **kwargs)
        if expand_size > 1 and kwargs.get("video_memory") is not None:
            kwargs["video_memory"] = kwargs["video_memory"].repeat_interleave(expand_size)
        return input_ids, kwargs

    def _get_candidate_generator(
        self,
        *,
        model_kwargs: dict[str, Any],
        assistant_model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> CandidateGenerator:
        """What drafts get no memory that was made by this model."""
        make = super()._get_candidate_generator
        if assistant_model is None:
            return make(model_kwargs=model_kwargs, **kwargs)
        own = dict(model_kwargs)
        memory, types = own.pop("draft_memory", None), own["mm_token_type_ids"]
        del own["video_memory"]
        if isinstance(assistant_model, SlowFastGenerationMixin):
            own["video_memory"] = memory
            return make(model_kwargs=own, assistant_model=assistant_model, **kwargs)
        del own["mm_token_type_ids"]
        is_text = types == TEXT
        mask = own.get("attention_mask")
        own["attention_mask"] = is_text.long() if mask is None else mask * is_text
        drafts = make(model_kwargs=own, assistant_model=assistant_model, **kwargs)
        return DraftOfWords(drafts, is_text)

    @takes_either_name
    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        cache: Cache | None = None,
        is_first_iteration: bool = False,
        inputs_embeds: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        video_memory: MemoryBatch | None = None,
        draft_memory: MemoryBatch | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`draft_memory` is for `_get_candidate_generator`, not for a step of this model."""
        types = mm_token_type_ids
        if types is None and video_memory is not None:
            types = self.model.token_types(input_ids)
        if types is not None:
            # What was generated is text. (In a chunked prefill `input_ids` is the chunk alone, the
            # types are all up to its end.)
            types = F.pad(types, (0, max(0, input_ids.shape[1] - types.shape[1])), value=TEXT)
        if next_sequence_length is None and cache is not None and not is_first_iteration:
            # A chunk of the prompt: so transformers before 5.23, with the types of the whole.
            is_first_iteration = True
            if types is not None:
                types = types[:, : cache.get_seq_length() + input_ids.shape[1]]
        inputs = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            is_first_iteration=is_first_iteration,
            inputs_embeds=inputs_embeds,
            mm_token_type_ids=types,
            **{CACHE: cache},
            **kwargs,
        )
        if types is None:
            return inputs
        embeds = inputs.get("inputs_embeds")
        length = (inputs["input_ids"] if embeds is None else embeds).shape[1]
        inputs["mm_token_type_ids"] = types[:, -length:]  # which transformers does since 5.23
        if video_memory is None:
            return inputs
        inputs["fast_token_offset"] = (types[:, :-length] != TEXT).sum(1)
        # The first step of a draft is not called one.
        whole_prompt = is_first_iteration or (cache is not None and length == types.shape[1])
        if not whole_prompt:
            video_memory = self._memory_for_decoding(video_memory, cache)
        inputs["video_memory"] = video_memory
        return inputs

    def _memory_for_decoding(self, memory: MemoryBatch, cache: Cache | None) -> MemoryBatch | None:
        """What a step after the prompt needs: generated tokens hold no placeholder."""
        if not self.config.slow_attention_for_generated_tokens:
            if cache is None:
                raise ValueError(
                    "slow_attention_for_generated_tokens=False needs use_cache=True: without a "
                    "cache each step reads prompt and answer together."
                )
            return None
        return memory if cache is None else memory.without_fast_tokens()
