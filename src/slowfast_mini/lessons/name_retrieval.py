"""Lets a trained model find things by names that it has just been given.

Its slow attention finds what it was taught to find and nothing else: where a new name is asked for,
the query is like the key of its object no more than like any other's. So each name gets a code,
which the query of its word and the key of its object both carry: a ridge regression adds it to the
projections, and leaves the queries of other words and the keys of other tokens as they are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast

from slowfast_mini import world
from slowfast_mini.lessons.world_data import FramesDataset, turn_prompt
from slowfast_mini.lessons.world_data import normalise as normalise_frames
from slowfast_mini.things.names import CHINESE, CLASSES, NAMES
from slowfast_mllm.model import SlowFastForConditionalGeneration

_ASKED = {"en": ("Is there a {}", "How many {}", "When does the {}"),
          CHINESE: ("有{}", "畫面裡有沒有{}", "{}在哪裡")}  # fmt: skip
_FIRST_SEED = 30_000_000  # of clips and questions of the world in which no such thing is
_CLIPS, _SCRIPTS, _VIEWS = 24, 40, 24
_LOUD = 16.0  # length of a code in queries and keys
_PASSED_ON = 4.0  # length of what a found name adds to the stream
_RIDGE = 0.003  # of the mean square of the inputs
_SLOW_TURNS = 7e-4  # radians a position: dimensions that turn faster say where, not what


@torch.no_grad()
def start_retrieval_of_names(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Write codes into queries, slow keys and values of the hybrid layers, in place.

    Args:
        model: with an object tower, and trained on the world.
    """
    base = model.model
    objects, kinds = _objects(model)
    others = _tokens_of_drawn_clips(model)
    named, kinds_named = _hidden_of_names(model, tokenizer)
    words = _hidden_of_questions(model, tokenizer)
    directions = name_directions(model, tokenizer)
    for place, index in enumerate(model.config.hybrid_layers):
        layer = base.language_model.layers[index]
        attention: Any = layer.self_attn
        slow = attention.cross_attn
        dim, groups = attention.head_dim, attention.num_key_value_groups
        codes = _LOUD * _codes(len(CLASSES), dim, base.language_model.rotary_emb.inv_freq)
        norm = layer.input_layernorm
        query = _added(norm(named[place]), norm(words[place]), codes[kinds_named])
        key = _added(norm(objects), norm(others), codes[kinds])
        attention.q_proj.weight += query.repeat(attention.q_proj.out_features // dim, 1)
        slow.k_proj.weight += key.repeat(slow.num_kv_heads, 1)
        outward = attention.o_proj.weight.unflatten(1, (slow.num_kv_heads, groups, dim)).sum(2)
        for head in range(slow.num_kv_heads):
            passed = _PASSED_ON * directions @ torch.linalg.pinv(outward[:, head], rtol=0.1).T
            value = _added(norm(objects), norm(others), passed[kinds])
            slow.v_proj.weight[head * dim : (head + 1) * dim] += value


def _added(some: Tensor, others: Tensor, wanted: Tensor) -> Tensor:
    """(out, D): the smallest map that makes `wanted` (n, out) of `some` (n, D), of `others` 0."""
    inputs = torch.cat([some, others])
    weights = torch.ones(len(inputs), 1)
    weights[: len(some)] = len(others) / len(some)
    targets = torch.cat([wanted, wanted.new_zeros(len(others), wanted.shape[1])])
    square = (inputs * weights).T @ inputs
    square += _RIDGE * square.trace() / len(square) * torch.eye(len(square))
    return torch.linalg.solve(square, (inputs * weights).T @ targets).T


def _codes(count: int, dim: int, turns: Tensor) -> Tensor:
    """(count, dim) of length one, in dimensions that rotary positions hardly turn."""
    slow = (turns <= _SLOW_TURNS).repeat(2)
    if not slow.any():
        slow[:] = True
    return normalize(torch.randn(count, dim) * slow, dim=1)


def _objects(model: SlowFastForConditionalGeneration) -> tuple[Tensor, Tensor]:
    """Tokens (n, D) of one thing of each class in many places, sizes and colours; their classes."""
    config = model.config.object_config
    number = config.num_classes
    kinds = torch.arange(number).repeat(_VIEWS)
    count = len(kinds)
    scores = 0.12 * torch.rand(count, number) ** 4
    scores[torch.arange(count), kinds] = sure = 0.45 + 0.45 * torch.rand(count)
    place, size = 0.1 + 0.8 * torch.rand(count, 2), 0.05 + 0.5 * torch.rand(count, 2)
    rest = [place, size, sure[:, None], torch.ones(count, 1), torch.rand(count, 3),
            0.01 * torch.randn(count, 2)]  # fmt: skip
    features = torch.cat([scores, *rest], 1)
    frames = [  # each a clip of one frame
        model.model.object_tokens(view[None], 10 * torch.rand(1))[0]
        for view in features.split(number)
    ]
    return torch.cat(frames), kinds


def _tokens_of_drawn_clips(model: SlowFastForConditionalGeneration) -> Tensor:
    """Slow tokens (n, D) of clips without such things."""
    base, config = model.model, model.config
    num_frames = 4 * config.fast_temporal_pool
    frames = FramesDataset(_FIRST_SEED, _CLIPS, num_frames, config.vision_config.image_size)
    times = torch.arange(num_frames) * 0.3
    tokens = [
        base.slow_maps(*base.vision_maps(normalise_frames(frames[i])), times).flatten(0, 2)
        for i in range(_CLIPS)
    ]
    return torch.cat(tokens)


def _hidden_of_names(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[Tensor], Tensor]:
    """Of each hybrid layer what reaches it (n, D) at the end of a name that is asked for."""
    rows: list[list[Tensor]] = []
    kinds = []
    for language, patterns in _ASKED.items():
        for pattern in patterns:
            for kind, name in enumerate(CLASSES):
                word = NAMES[language][name].name.one
                text = pattern.format(word)
                text = text[: text.index(word) + len(word)]
                rows.append([h[-1:] for h in _hidden(model, tokenizer, text)])
                kinds.append(kind)
    return [torch.cat(layer) for layer in zip(*rows, strict=True)], torch.tensor(kinds)


def _hidden_of_questions(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> list[Tensor]:
    """The same of all words of questions about drawn clips."""
    rows = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + _SCRIPTS):
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, 32)
        language = "zh-TW" if seed % 3 == 0 else "en"
        for qa in world.questions(script, seed, times, language)[:6]:
            rows.append(_hidden(model, tokenizer, qa.question))
    return [torch.cat(layer) for layer in zip(*rows, strict=True)]


def _hidden(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, question: str
) -> list[Tensor]:
    """What reaches each hybrid layer (L, D) of a question without a video."""
    text = turn_prompt(question, first=True).replace("<video>\n", "")
    text = text[: text.rindex("<|im_end|>")]
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    states = model.model(input_ids=ids, output_hidden_states=True).hidden_states
    return [states[index][0] for index in model.config.hybrid_layers]


def name_directions(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> Tensor:
    """(classes, D) of length one: where the first tokens of a name lie, in both languages."""
    embeddings = model.get_input_embeddings().weight
    centered = embeddings - embeddings.mean(0)
    found = []
    for name in CLASSES:
        words = (f" {NAMES['en'][name].name.one}", NAMES[CHINESE][name].name.one)
        ids = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in words]
        found.append(normalize(normalize(centered[ids], dim=1).sum(0), dim=0))
    return torch.stack(found)
