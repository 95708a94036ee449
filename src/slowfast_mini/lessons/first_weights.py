"""What the dense stage hands on: first weights that let the language model find and name things.

A model of this size learns the words for what the tower sees only after thousands of steps, because
nothing moves before a question finds its object and its object says its name. Both are known here:
the labels say which visual tokens show a star, and a query can start out looking for its like.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from slowfast_mini import world
from slowfast_mini.lessons.dense_labels import DenseLabelModel
from slowfast_mini.lessons.world_data import MomentDataset, collate_dense
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.visual_tokens import coarse_motion

_TOKEN_DEVIATION = 0.5  # of the first visual tokens; that of their position embedding is alike
_WORD_SHARE = 0.9  # norm of the visual part of a word's embedding; that of the random part is 0.5
_PASSED_ON = 0.15  # of a found slow token that each head adds to the stream
_SAMPLE = 512  # moments that tell what visual tokens look like
_FEWEST_CELLS = 5  # that a mean direction is made from


@torch.no_grad()
def start_from_dense_stage(
    model: SlowFastForConditionalGeneration,
    learner: DenseLabelModel,
    tokenizer: PreTrainedTokenizerFast,
    data: MomentDataset,
) -> None:
    """Write first weights into projector, word embeddings and slow attention, in place.

    Args:
        learner: the trained tower and heads.
        data: what they were trained on.
    """
    moments = collate_dense([data[i] for i in range(min(len(data), _SAMPLE))])
    maps = learner.encode(moments["pixel_values_videos"])
    _start_projector(model.model.multi_modal_projector, learner.head.weight, maps.flatten(0, -2))
    tokens = model.model.multi_modal_projector(maps)
    _start_motion(model, moments)
    for name, classes in (
        ("shape", world.SHAPES),
        ("color", world.COLORS),
        ("glyph", world.GLYPHS),
    ):
        labels = moments[name].flatten(0, 1)
        _start_words(model.get_input_embeddings().weight, tokenizer, classes, tokens, labels)
    for index in model.config.hybrid_layers:
        attention: Any = model.model.language_model.layers[index].self_attn
        start_retrieval(attention, attention.cross_attn.k_proj, attention.cross_attn.v_proj)


def _start_projector(projector: nn.Sequential, rows: Tensor, maps: Tensor) -> None:
    """Let the first words the language model hears of a cell be what the heads say of it.

    The first layer begins with the heads' rows, once as they are and once negated (GELU passes one
    side); its further rows stay random. Over `maps` (N, C) every row gets zero mean and unit
    deviation, and the tokens a deviation that leaves their positions audible. A random projector
    would bury shapes and glyphs under what varies most.
    """
    first, *_, last = (layer for layer in projector if isinstance(layer, nn.Linear))
    both = torch.cat([rows, -rows])[: len(first.weight)]
    first.weight[: len(both)] = both
    heard = maps @ first.weight.T
    deviation = heard.std(0).clamp(min=1e-3)
    first.weight /= deviation[:, None]
    first.bias.copy_(-heard.mean(0) / deviation)
    last.weight *= _TOKEN_DEVIATION / projector(maps).std()


def _start_motion(model: SlowFastForConditionalGeneration, moments: dict[str, Tensor]) -> None:
    """Let motion be as loud in a token as what is seen there."""
    grid = moments["shape"].shape[-1] // model.config.slow_spatial_pool
    steady = moments["steady"][:, 0] > 0
    videos = moments["pixel_values_videos"][steady]
    motion = torch.stack([coarse_motion(video, grid, grid)[1] for video in videos])
    heard = model.model.visual_position_embedding.weight[:, -motion.shape[-1] :]
    heard *= _TOKEN_DEVIATION / (motion @ heard.T).std()


def _start_words(
    embeddings: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    classes: tuple[str, ...],
    tokens: Tensor,
    labels: Tensor,
) -> None:
    """Let the name of a class point where its visual tokens (..., D) lie from the mean of all."""
    mean = tokens.flatten(0, -2).mean(0)
    for number, word in enumerate(classes, start=1):
        shown = tokens[labels == number]
        if len(shown) < _FEWEST_CELLS:
            continue
        direction = nn.functional.normalize(shown.mean(0) - mean, dim=0)
        for spelling in sorted({word, word.capitalize(), f" {word}", f" {word.capitalize()}"}):
            ids = tokenizer(spelling, add_special_tokens=False).input_ids
            if len(ids) == 1:
                embeddings[ids[0]] = 0.5 * embeddings[ids[0]] + _WORD_SHARE * direction


@torch.no_grad()
def start_retrieval(attention: Any, keys: nn.Linear, values: nn.Linear) -> None:
    """Let an attention's queries look for tokens like themselves, and pass on what they find as it
    is. `keys` and `values` project what is attended."""
    queries = attention.q_proj.weight.unflatten(0, (-1, attention.head_dim))
    queries = queries.unflatten(0, (len(keys.weight) // attention.head_dim, -1))
    group = queries.shape[1]
    keys.weight.copy_(queries.sum(1).flatten(0, 1) / group**0.5)
    nn.init.orthogonal_(values.weight)
    outward = values.weight.unflatten(0, (-1, 1, attention.head_dim))
    outward = outward.expand_as(queries).flatten(0, 2)
    attention.o_proj.weight.add_(_PASSED_ON * outward.T)
