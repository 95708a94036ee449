"""One more pass over an answer that was made, to see what it read of the video.

A question that asks for nothing in particular is read beside it in the same pass, once for a video.

The answer is as it was: nothing of this is computed before it is done, nor unless it is asked for.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from slowfast_mllm.engine.answer import Answer
from slowfast_mllm.engine.beginnings import branch, up_to
from slowfast_mllm.engine.encoded_video import EncodedVideo
from slowfast_mllm.engine.evidence import Evidence, weigh
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.model.sharding import summed
from slowfast_mllm.model.slow_evidence import SlowEvidence
from slowfast_mllm.model.video_memory import TEXT, pack_memories

_NEUTRAL = "What happens in the video?"


def with_evidence(
    answer: Answer,
    model: LoadedModel,
    video: EncodedVideo,
    ids: Sequence[int],
    answered: int,
    cache: Cache | None = None,
) -> Answer:
    """An answer that says what it read of the video.

    Args:
        ids: of prompt and answer.
        answered: how many of them, from the end, are the answer.
        cache: that holds these but the last, or at least the prompt up to the end of the video;
            None, or one that cannot be cut (layers with a window): they are read again.
    """
    began = time.perf_counter()
    evidence = _find(model, video, torch.tensor([ids]), answered, cache)
    timing = {**answer.timing, "evidence": time.perf_counter() - began}
    return replace(answer, evidence=evidence, timing=timing)


@torch.no_grad()
def _find(
    model: LoadedModel, video: EncodedVideo, ids: Tensor, answered: int, cache: Cache | None
) -> Evidence:
    config = model.model.config
    prompt = ids.shape[1] - answered
    # A placeholder that the model says stands for nothing.
    told = F.pad(model.model.model.token_types(ids[:, :prompt]), (0, answered - 1), value=TEXT)
    if config.slow_attention_for_generated_tokens:
        # The last token foretells nothing; the prompt's last one does foretell the answer's first.
        ids, last = ids[:, :-1], answered
    else:  # then all was read by the time the answer began
        ids, told = ids[:, :prompt], told[:, :prompt]
        last = prompt - int((told[0] != TEXT).nonzero().max()) - 1
    frames = len(video.timestamps)
    prompts, kept = [_Prompt(ids, told, last)], model.beginnings.usual
    if video.memory not in kept:
        prompts.append(_neutral(model, video))
    read, *others = (weights.view(frames, -1) for weights in _read(model, video, prompts, cache))
    if others:
        kept[video.memory] = others[0]
    usual = kept[video.memory]
    objects = 0 if config.object_config is None else config.object_config.num_objects
    side = round((read.shape[1] - objects) ** 0.5)  # the frames that a model is given are square
    facts = (video.frame_indices, video.timestamps, video.info.duration)
    return weigh(read, usual, (side, side), *facts)


class _Prompt(NamedTuple):
    """Ids and token types (1, L), and how many positions from the end count."""

    ids: Tensor
    types: Tensor
    last: int


def _neutral(model: LoadedModel, video: EncodedVideo) -> _Prompt:
    """A question that asks for nothing in particular: all that comes after the video counts."""
    ids = model.prompt_ids([model.user_message(_NEUTRAL, first=True)], video)
    types = model.model.model.token_types(ids)
    return _Prompt(ids, types, ids.shape[1] - int((types[0] != TEXT).nonzero().max()) - 1)


def _read(
    model: LoadedModel, video: EncodedVideo, prompts: list[_Prompt], cache: Cache | None
) -> list[Tensor]:
    """Of each prompt (S,) float64 on the CPU: the weights of slow tokens in its last positions."""
    device = model.model.device
    prompts = [_Prompt(p.ids.to(device), p.types.to(device), p.last) for p in prompts]
    # Of what all prompts about a video share.
    end = int((prompts[0].types[0] != TEXT).nonzero().max()) + 1
    beginning = up_to(cache, end) or model.beginnings.cache(video, prompts[0].ids)
    if model.takes_any_mask:
        answer = prompts[0]
        beginning = up_to(cache, answer.ids.shape[1] - answer.last) or beginning
        return _pass(model, video, prompts, end, beginning)
    alone = ([prompt] for prompt in prompts)
    return [w for p in alone for w in _pass(model, video, p, end, beginning and branch(beginning))]


def _pass(
    model: LoadedModel,
    video: EncodedVideo,
    prompts: list[_Prompt],
    end: int,
    beginning: DynamicCache | None,
) -> list[Tensor]:
    """Prompts that share their tokens up to `end`, in one row: after that, none sees another.

    `beginning` holds the first prompt up to there, or further.
    """
    known = 0 if beginning is None else beginning.get_seq_length()
    begins = [known, *(end for _ in prompts[1:])]
    ids = torch.cat([p.ids[:, at:] for p, at in zip(prompts, begins, strict=True)], 1)
    types = torch.cat([p.types[:, at:] for p, at in zip(prompts, begins, strict=True)], 1)
    groups, sight = [], torch.ones(ids.shape[1], known + ids.shape[1], dtype=torch.bool).tril(known)
    first = 0
    for prompt, at in zip(prompts, begins, strict=True):
        last = first + prompt.ids.shape[1] - at
        groups.append(slice(last - prompt.last, last))
        sight[last:, known + first if first else end : known + last] = False
        first = last
    collector = SlowEvidence(*groups)
    model.model(
        input_ids=ids,
        attention_mask=model.mask_of(sight) if len(prompts) > 1 else None,
        position_ids=(sight.sum(1) - 1)[None].to(ids.device),
        use_cache=beginning is not None,
        cache=beginning,
        video_memory=pack_memories(prompts[0].types, [video.memory]),
        mm_token_type_ids=types,
        fast_token_offset=(prompts[0].types[:, :known] != TEXT).sum(1),
        logits_to_keep=1,
        slow_evidence=collector,
    )
    if collector.weights is None:
        raise RuntimeError("No hybrid layer told what it reads of the video.")
    return list(summed(model.model, collector.weights)[0].double().cpu())
