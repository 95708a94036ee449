"""A trained packaged model gets eyes for everyday things: the object tower, and words for it."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast

from slowfast_mini.things import CLASSES, sure_of
from slowfast_mini.things.names import CHINESE, NAMES
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel

_LOUD = 11.5  # length of a name in the token of an object: that of what drawn clips show
_STEEP, _BEFORE = 25.0, 0.1  # slope of a score at the projector; how far below sure it begins
_RANDOM = 0.5  # norm of the random part of a new token's embedding


@torch.no_grad()
def grow(
    model: SlowFastForConditionalGeneration,
    old: PreTrainedTokenizerFast,
    new: PreTrainedTokenizerFast,
    tower: str | Path,
) -> SlowFastForConditionalGeneration:
    """The same model with an object tower and another tokenizer; seed torch first.

    Args:
        old: the tokenizer that the model was trained with.
        new: begins with the same special tokens.
        tower: folder of a `NanoDetModel` (see `slowfast_mini.lessons.fetch_tower`).
    """
    fields = model.config.to_dict()
    fields.pop("auto_map", None)
    fields["text_config"] = fields["text_config"] | {"vocab_size": len(new)}
    fields["object_config"] = NanoDetConfig.from_pretrained(tower, given="objects").to_dict()
    said = old.decode(fields.pop("answer_without_vision")[:-1])
    fields["answer_without_vision"] = [*new.encode(said), new.eos_token_id]
    grown = SlowFastForConditionalGeneration(SlowFastConfig(**fields)).float()
    state = model.state_dict()
    embeddings = _embeddings(state["model.language_model.embed_tokens.weight"], old, new)
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        state[name] = embeddings
    missing, unexpected = grown.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("object_" in name for name in missing)
    weights = NanoDetModel.from_pretrained(tower).state_dict()
    grown.model.object_tower.load_state_dict(weights)
    _start_names(grown, new)
    return grown.eval()


def _embeddings(
    known: Tensor, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast
) -> Tensor:
    """(new vocabulary, D): a token as it was, or the mean of the old ones that spell it."""
    vocabulary, spell = old.get_vocab(), old.backend_tokenizer.model.tokenize
    result = torch.empty(len(new), known.shape[1])
    for token, index in new.get_vocab().items():
        if token in vocabulary:
            result[index] = known[vocabulary[token]]
            continue
        pieces = [piece.id for piece in spell(token)]
        noise = normalize(torch.randn(known.shape[1]), dim=0)
        result[index] = known[pieces].mean(0) + _RANDOM * noise
    return result


def _start_names(
    model: SlowFastForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Let the token of an object point where the first tokens of its name lie, as loud as what is
    seen of a drawn clip, if its track is sure enough: GELU(x - a) - GELU(x - b) is a ramp from a to
    b, so two rows a class carry a score through the projector."""
    first, _, last = cast(tuple[nn.Linear, nn.GELU, nn.Linear], model.model.object_projector)
    sure = [sure_of(name) for name in CLASSES]
    for index, direction in enumerate(_name_directions(model, tokenizer)):
        for row, sign in ((2 * index, 1), (2 * index + 1, -1)):
            if row < len(first.weight):
                first.weight[row] = 0
                first.weight[row, index] = _STEEP
                first.bias[row] = -_STEEP * (sure[index] - (_BEFORE if sign > 0 else 0))
                last.weight[:, row] = sign * _LOUD / (_STEEP * _BEFORE) * direction


def _name_directions(
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
