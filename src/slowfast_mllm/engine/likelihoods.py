"""How likely a model finds answers that are known beforehand, many of them in one pass.

All prompts and answers about a video begin alike: what they share is read once, and what differs
is a tree whose branches do not see each other. The tree stands in one row, so that neither the
cache of the video nor its slow tokens are copied, however many answers there are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from slowfast_mllm.engine.answer import Likelihood
from slowfast_mllm.engine.answers import RefuseNan
from slowfast_mllm.engine.beginnings import branch
from slowfast_mllm.engine.encoded_video import EncodedVideo
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.model.video_memory import TEXT, pack_memories
from slowfast_mllm.video.names import is_utf8, short_name

_MOST = 512  # tokens of a tree: beyond, their logits over a large vocabulary are too many
_ROWS = 64  # of logits that are summed at once


def answer_ids(model: LoadedModel, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of answers as the model would write them.

    Raises:
        ValueError: they are no list of texts, or one of them is empty or no text.
    """
    if isinstance(answers, str) or not answers or not all(isinstance(a, str) for a in answers):
        raise ValueError('answers: give a list of texts, for example ["a cat", "a dog"].')
    found = []
    for answer in answers:
        text = model.without_control_tokens(answer).strip() if is_utf8(answer) else ""
        ids = model.processor.tokenizer(text, add_special_tokens=False).input_ids
        if not ids:
            raise ValueError(f"The answer {short_name(answer)!r} is empty; give words.")
        found.append(ids)
    return found


@torch.no_grad()
def likelihoods_each(
    model: LoadedModel, video: EncodedVideo, questions: Sequence[str], answers: Sequence[str]
) -> list[list[Likelihood]]:
    """Of each answer after each question about a video; see `SlowFast.likelihoods`."""
    continuations = answer_ids(model, answers)
    longest = max(map(len, continuations))
    prompts = [
        model.prompt_ids([model.user_message(question, first=True)], video, longest)
        for question in questions
    ]
    known = _shared(prompts)
    if not _branches(model, prompts, known):
        return [[_alone(model, video, p, ids) for ids in continuations] for p in prompts]
    logits, cache = model.read_prompt(video, prompts[0][:, :known])
    tails = [prompt[0, known:].tolist() for prompt in prompts]
    pairs = [(tail, ids) for tail in tails for ids in continuations]
    found: list[Likelihood] = []
    for tree in _trees(pairs):
        rows, where = logits, {0: 0}
        if tree.tokens:
            read, where = _read(model, video, prompts[0][:, :known], cache, tree)
            rows = torch.cat([logits, read])
        found += _sums(rows, tree.steps(where))
    each = len(continuations)
    return [found[i : i + each] for i in range(0, len(found), each)]


@torch.no_grad()
def likelihoods_about(
    model: LoadedModel, videos: Sequence[EncodedVideo], question: str, answers: Sequence[str]
) -> list[list[Likelihood]]:
    """Of each answer to one question, about each of several videos: a pass for those whose prompts
    are of one length."""
    continuations = answer_ids(model, answers)
    message, longest = model.user_message(question, first=True), max(map(len, continuations))
    groups: dict[int, list[int]] = {}
    prompts = [model.prompt_ids([message], video, longest) for video in videos]
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt.shape[1], []).append(place)
    found: dict[int, list[Likelihood]] = {}
    for length, places in groups.items():
        some = [prompts[place] for place in places]
        if _branches(model, some, length):
            each = _together(model, [videos[p] for p in places], torch.cat(some), continuations)
        else:
            each = [likelihoods_each(model, videos[p], [question], answers)[0] for p in places]
        found.update(zip(places, each, strict=True))
    return [found[place] for place in range(len(videos))]


def _together(
    model: LoadedModel, videos: list[EncodedVideo], prompts: Tensor, continuations: list[list[int]]
) -> list[list[Likelihood]]:
    """For prompts (B, L), the tree of all answers behind each."""
    found: list[list[Likelihood]] = [[] for _ in videos]
    network, length = model.model, prompts.shape[1]
    for tree in _trees([([], ids) for ids in continuations]):
        tail = torch.tensor(tree.tokens, dtype=torch.long, device=prompts.device)
        ids = torch.cat([prompts, tail.expand(len(prompts), -1)], dim=1)
        types = network.model.token_types(prompts)
        types = torch.cat([types, torch.full_like(ids[:, length:], TEXT)], dim=1)
        sight = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        sight[length:, length:] = tree.sight()
        nodes = sorted({node for steps in tree.answers for node, _ in steps})
        logits = network(
            input_ids=ids,
            attention_mask=model.mask_of(sight).expand(len(ids), -1, -1, -1),
            position_ids=(sight.sum(1) - 1).to(ids.device).expand(len(ids), -1),
            use_cache=False,
            video_memory=pack_memories(types, [video.memory for video in videos]),
            mm_token_type_ids=types,
            logits_to_keep=torch.tensor(nodes, device=ids.device) + length - 1,
        ).logits
        where = {node: row for row, node in enumerate(nodes)}
        for rows, mine in zip(logits, found, strict=True):
            mine += _sums(rows, tree.steps(where))
    return found


@dataclass
class _Tree:
    """Tokens after a beginning; node 0 is the beginning itself, node i token i - 1.

    Attributes:
        parents: of each token, a node.
        answers: of each answer, the node that foretells each of its tokens, and the token.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    answers: list[list[tuple[int, int]]] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, tail: list[int], answer: list[int]) -> None:
        """An answer after the rest of a prompt; its last token foretells nothing."""
        node = 0
        for token in tail:
            node = self._child(node, token)
        steps = [(node, answer[0])]
        for token, following in pairwise(answer):
            node = self._child(node, token)
            steps.append((node, following))
        self.answers.append(steps)

    def steps(self, rows: dict[int, int]) -> list[list[tuple[int, int]]]:
        """`answers` with the rows of logits that belong to nodes."""
        return [[(rows[node], token) for node, token in answer] for answer in self.answers]

    def _child(self, node: int, token: int) -> int:
        if (node, token) not in self._children:
            self.tokens.append(token)
            self.parents.append(node)
            self._children[node, token] = len(self.tokens)
        return self._children[node, token]

    def sight(self) -> Tensor:
        """(N, N) bool, True where a token sees another: its ancestors and itself."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for row, parent in enumerate(self.parents):
            if parent:
                seen[row] |= seen[parent - 1]
        return torch.from_numpy(seen)


def _shared(prompts: Sequence[Tensor]) -> int:
    """How many tokens at their beginning all prompts (1, L) share."""
    length = min(prompt.shape[1] for prompt in prompts)
    same = torch.stack([prompt[0, :length] == prompts[0][0, :length] for prompt in prompts])
    return int(same.all(0).long().cumprod(0).sum())


def _branches(model: LoadedModel, prompts: Sequence[Tensor], known: int) -> bool:
    """Whether this model can read a tree after that many tokens, all of the video among them."""
    types = [model.model.model.token_types(prompt)[0, known:] for prompt in prompts]
    text_alone = all(bool((rest == TEXT).all()) for rest in types)
    return known > 0 and text_alone and model.takes_any_mask


def _trees(pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[_Tree]:
    """Trees of at most `_MOST` tokens, or of one answer."""
    tree = _Tree()
    for tail, answer in pairs:
        if tree.answers and len(tree.tokens) + len(tail) + len(answer) > _MOST:
            yield tree
            tree = _Tree()
        tree.add(tail, answer)
    yield tree


def _read(
    model: LoadedModel, video: EncodedVideo, beginning: Tensor, cache: DynamicCache, tree: _Tree
) -> tuple[Tensor, dict[int, int]]:
    """Logits (N, V) of what follows tokens of a tree, and which row is which node's; 0 is the
    beginning's, which stands before them."""
    network = model.model
    ids = torch.tensor([tree.tokens], device=network.device)
    length = beginning.shape[1]
    sight = F.pad(tree.sight(), (length, 0), value=True)
    types = network.model.token_types(beginning)
    nodes = sorted({node for steps in tree.answers for node, _ in steps} - {0})
    logits = network(
        input_ids=ids,
        attention_mask=model.mask_of(sight),
        position_ids=(sight.sum(1) - 1)[None].to(ids.device),
        cache=branch(cache),
        video_memory=pack_memories(types, [video.memory]),
        mm_token_type_ids=torch.full_like(ids, TEXT),
        fast_token_offset=(types != TEXT).sum(1),
        logits_to_keep=torch.tensor(nodes, device=network.device) - 1,
    ).logits[0]
    return logits, {node: row for row, node in enumerate([0, *nodes])}


def _alone(
    model: LoadedModel, video: EncodedVideo, prompt: Tensor, answer: list[int]
) -> Likelihood:
    """As anywhere: prompt and answer in one piece, for layers that take no tree."""
    ids = torch.cat([prompt, torch.tensor([answer], device=prompt.device)], dim=1)
    types = model.model.model.token_types(ids)
    logits = model.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        video_memory=pack_memories(types, [video.memory]),
        mm_token_type_ids=types,
        logits_to_keep=len(answer) + 1,
    ).logits[0]
    return _sums(logits, [list(enumerate(answer))])[0]


def _sums(logits: Tensor, answers: Sequence[Sequence[tuple[int, int]]]) -> list[Likelihood]:
    """Of each answer, which is for each of its tokens a row of logits (N, V), and the token."""
    RefuseNan()(logits, scores=logits)
    rows, tokens = (list(each) for each in zip(*chain.from_iterable(answers), strict=True))
    # In parts: in float32 the logits over a large vocabulary take twice as much as they did.
    whole = torch.cat([part.float().logsumexp(-1) for part in logits.split(_ROWS)])
    each = (logits[rows, tokens].float() - whole[rows]).tolist()
    first = (logits.argmax(-1)[rows].cpu() == torch.tensor(tokens)).tolist()
    spans = [
        slice(e - len(a), e) for a, e in zip(answers, accumulate(map(len, answers)), strict=True)
    ]
    return [Likelihood(math.fsum(each[span]), len(each[span]), all(first[span])) for span in spans]
