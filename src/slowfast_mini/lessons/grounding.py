"""Two heads learn to look from the name of a thing to the tracks of that name.

A model that has learned names by copying them does not find them by itself: whether "dog" is among
ten tracks is a comparison, and answers alone teach it late. So where a question names a thing, the
attention of its last token is taught too: to the tracks that are it, or to none of the others.
Source: supervised attention, Liu et al., "Attention Correctness in Neural Image Captioning" (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from slowfast_mini.lessons.seen_clips import SeenClipModel, may_see
from slowfast_mini.lessons.world_data import ConversationCollator, SeenClip
from slowfast_mini.things import CLASSES, find_names, sure_of
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.object_tracks import evidence_of

# Layers without slow attention, a head of each: those that looked most at objects untaught.
_HEADS = ((2, 2), (4, 0))
_WEIGHT = 0.1  # beside the loss of answers
_OF_WRONG = 0.5  # of names that nothing has, beside those that something has
_SURE_ENOUGH = 0.02  # below what questions take for sure: scores between are neither
_LEAST = -15.0  # log of a share of attention below which no more is lost
_MENTIONED_NONE = -1


class GroundedModel(SeenClipModel):
    """`SeenClipModel` whose loss tells two heads where to look; not all layers are compiled."""

    def __init__(self, model: SlowFastForConditionalGeneration) -> None:
        super().__init__(model)
        self._inputs: dict[int, Tensor] = {}
        text = model.config.text_config
        self._heads = [
            (layer, head)
            for layer, head in _HEADS
            if layer < text.num_hidden_layers and head < text.num_attention_heads
        ]
        for layer, _ in self._heads:
            norm = model.model.language_model.layers[layer].input_layernorm
            norm.register_forward_hook(
                lambda _module, _args, output, layer=layer: self._inputs.update({layer: output})
            )

    def compile_layers(self) -> None:
        """Of the others: what a compiled layer computes inside is not seen."""
        watched = {layer for layer, _ in self._heads}
        for index, layer in enumerate(self.model.model.language_model.layers):
            if index not in watched:
                layer.compile(dynamic=True)

    def forward(  # type: ignore[override]
        self,
        maps: list[Tensor],
        motion: list[Tensor],
        timestamps: list[Tensor],
        input_ids: Tensor,
        position_ids: Tensor,
        group: Tensor,
        labels: Tensor,
        objects: list[Tensor],
        mentioned: Tensor,
    ) -> dict[str, Tensor]:
        """Batches as `MentioningCollator` makes them; returns the `loss`."""
        found = super().forward(
            maps, motion, timestamps, input_ids, position_ids, group, labels, objects
        )
        if (mentioned != _MENTIONED_NONE).any():
            grounding = self._grounding(input_ids, position_ids, group, objects, mentioned)
            found["loss"] = found["loss"] + _WEIGHT * grounding
        return found

    def _grounding(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        group: Tensor,
        objects: list[Tensor],
        named: Tensor,
    ) -> Tensor:
        """How little the heads look where they should, summed over them."""
        rows, places = (named != _MENTIONED_NONE).nonzero(as_tuple=True)
        asked = named[rows, places]
        kinds, sure = _kinds(objects)
        right = (kinds[rows] == asked[:, None]) & sure[rows]
        wrong = (kinds[rows] != asked[:, None]) & sure[rows]
        visual = (input_ids == self.model.config.video_token_id).long()
        # Those of objects are the last of a video.
        end = visual.shape[1] - visual.flip(1).argmax(1)
        tracks = (end[:, None] - kinds.shape[1] + torch.arange(kinds.shape[1]))[rows]
        seen = may_see(group)[rows, places]
        total = torch.zeros((), device=input_ids.device)
        for layer, head in self._heads:
            scores = self._scores(layer, head, position_ids, rows, places)
            shares = scores.masked_fill(~seen, -1e9).log_softmax(-1).gather(1, tracks)
            there = right.any(1)
            on_right = shares.masked_fill(~right, -1e4).logsumexp(1).clamp(min=_LEAST)
            on_wrong = shares.masked_fill(~wrong, -1e4).logsumexp(1).clamp(max=-1e-4)
            elsewhere = torch.log1p(-on_wrong.exp().clamp(max=0.9999))
            for chosen, told, weight in ((there, on_right, 1.0), (~there, elsewhere, _OF_WRONG)):
                if chosen.any():
                    total = total - weight * told[chosen].mean()
        return total

    def _scores(
        self, layer: int, head: int, position_ids: Tensor, rows: Tensor, places: Tensor
    ) -> Tensor:
        """Attention before the softmax, (n, L) float32, of tokens at `rows` and `places`."""
        language_model = self.model.model.language_model
        attention, hidden = language_model.layers[layer].self_attn, self._inputs[layer]
        size, turns = attention.head_dim, language_model.rotary_emb(hidden, position_ids)

        def part(projection: torch.nn.Linear, index: int) -> Tensor:
            chosen = slice(index * size, (index + 1) * size)
            bias = None if projection.bias is None else projection.bias[chosen]
            return F.linear(hidden, projection.weight[chosen], bias)[:, None]

        query, key = apply_rotary_pos_emb(
            part(attention.q_proj, head),
            part(attention.k_proj, head // attention.num_key_value_groups),
            *turns,
        )
        pairs = torch.einsum("nd,nld->nl", query[rows, 0, places].float(), key[rows, 0].float())
        return pairs.float() / size**0.5


def _kinds(objects: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of tracks (T, N, features) of B clips the class (B, N), and whether the clip is sure of
    it."""
    evidence = torch.stack([evidence_of(clip, len(CLASSES)) for clip in objects])
    sure = torch.tensor([sure_of(name) - _SURE_ENOUGH for name in CLASSES])
    surest, kinds = evidence.max(-1)
    return kinds, surest >= sure[kinds]


@dataclass(frozen=True)
class MentioningCollator(ConversationCollator):
    """Adds `mentioned` (B, L) int64: where a question that is asked apart ends a name, its class;
    elsewhere -1."""

    def __call__(self, clips: Sequence[SeenClip]) -> dict[str, Any]:
        batch = super().__call__(clips)
        mentioned = torch.full_like(batch["input_ids"], _MENTIONED_NONE)
        for row, clip in enumerate(clips):
            for turn, qa in enumerate(clip.questions if clip.apart else ()):
                if not any(find_names(qa.question, qa.language)):
                    continue
                places = (batch["group"][row] == turn + 1).nonzero().flatten()
                ids = batch["input_ids"][row, places].tolist()
                for token, kind in self._ends(ids, qa.language):
                    mentioned[row, places[token]] = kind
        return batch | {"mentioned": mentioned}

    def _ends(self, ids: list[int], language: str) -> list[tuple[int, int]]:
        """Last tokens of names in a turn, and their classes."""
        tokenizer, classes = self.processor.tokenizer, list(CLASSES)
        text = tokenizer.decode(ids)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if encoded.input_ids != ids:  # pieces that no text has
            return []
        question = text[: text.rindex("<|im_start|>assistant")]
        ends: list[tuple[int, int]] = []
        for name, end in find_names(question, language):
            pieces = [
                i for i, (first, last) in enumerate(encoded.offset_mapping) if first < end <= last
            ]
            ends.append((pieces[-1], classes.index(name)))  # a character may be several bytes
        return ends
