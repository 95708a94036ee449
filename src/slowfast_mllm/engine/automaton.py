"""Which tokens may come next, for an answer to match an expression as a whole, within a length."""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from slowfast_mllm.engine.automaton_table import table_apart, table_of

_LONGEST = 64  # bytes; tokens that are longer are not said
_NEVER = 2**30


class Vocabulary:
    """The tokens of a tokenizer as bytes."""

    def __init__(self, tokenizer: Any) -> None:
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        added = {token: facts.special for token, facts in _added(tokenizer).items()}
        spelled = _spelling(vocabulary)
        size = max(vocabulary.values()) + 1
        texts = [b""] * size
        for token, number in vocabulary.items():
            if token not in added:
                texts[number] = spelled(token)
            elif not added[token]:
                texts[number] = token.encode(errors="replace")
        lengths = [len(text) if len(text) <= _LONGEST else 0 for text in texts]
        self.lengths = np.array(lengths, dtype=np.int32)
        self.columns = np.zeros((max(lengths), size), dtype=np.uint8)
        for number, text in enumerate(texts):
            if lengths[number]:
                self.columns[: len(text), number] = list(text)
        self.words = {text for text in texts if 0 < len(text) <= _LONGEST}


def _added(tokenizer: Any) -> dict[str, Any]:
    return {token.content: token for token in tokenizer.added_tokens_decoder.values()}


def _spelling(vocabulary: dict[str, int]) -> Any:
    """How tokens are written in a vocabulary: GPT's letters for bytes, or SentencePiece's."""
    if not set(pre_tokenizers.ByteLevel.alphabet()) <= set(vocabulary):
        return _of_sentence_piece
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    letters |= {chr(256 + place): byte for place, byte in enumerate(others)}
    return lambda token: bytes(letters[letter] for letter in token)


def _of_sentence_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode(errors="replace")


@functools.lru_cache(maxsize=4)
def vocabulary(tokenizer: Any) -> Vocabulary:
    """The tokens of a tokenizer, which are spelled once."""
    return Vocabulary(tokenizer)


class Automaton:
    """The states of an expression, which tokens go from one to another.

    Attributes:
        start: its first state; 0 is the one in which nothing can be mended.
        needs: (S,) for each state, with how many tokens it can be ended.
        is_end, loops: (S,) whether all is said, and whether any text may go on here.
    """

    def __init__(self, expression: str, words: Vocabulary, apart: bool = False) -> None:
        """
        Args:
            apart: it may have states without end, and is looked into by another process.

        Raises:
            ValueError: it is none, or too large.
        """
        self.table, ends, self.start = (table_apart if apart else table_of)(expression)
        self.is_end = np.zeros(len(self.table), dtype=bool)
        self.is_end[ends] = True
        self.words = words
        self.needs = self._needs()
        if self.needs[self.start] == _NEVER:
            raise ValueError("nothing that this tokenizer can write fits it")
        # In a string without bounds a letter leads nowhere else.
        self.loops = self.table[:, ord("a")] == np.arange(len(self.table))
        self.loops[0] = False
        self.after = functools.lru_cache(maxsize=64)(self._after)

    def _needs(self) -> NDArray[np.int32]:
        """Along the way of the fewest bytes."""
        before: dict[int, list[tuple[int, int]]] = defaultdict(list)
        states, following = np.nonzero(self.table)
        for state, byte in zip(states.tolist(), following.tolist(), strict=True):
            before[int(self.table[state, byte])].append((state, byte))
        order = np.flatnonzero(self.is_end).tolist()
        way = dict.fromkeys(order, -1)  # the byte to go on with
        for state in order:  # grows: those that are one byte further away
            for earlier, byte in before[state]:
                if earlier not in way:
                    way[earlier] = byte
                    order.append(earlier)
        needs = np.full(len(self.table), _NEVER, dtype=np.int32)
        for state in order:
            needs[state] = self._need(state, way, needs)
        return needs

    def _need(self, state: int, way: dict[int, int], needs: NDArray[np.int32]) -> int:
        if way[state] < 0:
            return 0
        text, fewest = b"", _NEVER
        while way[state] >= 0 and len(text) < _LONGEST:
            text += bytes([way[state]])
            state = int(self.table[state, way[state]])
            if text in self.words.words:
                fewest = min(fewest, int(needs[state]) + 1)
        return fewest

    def _after(self, state: int) -> NDArray[np.int32]:
        """(V,) the state after each token; 0: it may not come."""
        columns, lengths = self.words.columns, self.words.lengths
        states = np.zeros(len(lengths), dtype=np.int32)
        tokens = np.flatnonzero(lengths)
        at = np.full(len(tokens), state, dtype=np.int32)
        for column in range(len(columns)):
            at = self.table[at, columns[column, tokens]]
            alive = at > 0
            tokens, at = tokens[alive], at[alive]
            ended = lengths[tokens] == column + 1
            states[tokens[ended]] = at[ended]
            tokens, at = tokens[~ended], at[~ended]
            if not len(tokens):
                break
        return states

    def walk(self, state: int, tokens: Sequence[int]) -> int:
        """The state after tokens, whose bytes are read one by one."""
        columns, lengths = self.words.columns, self.words.lengths
        for token in tokens:
            length = int(lengths[token]) if token < len(lengths) else 0
            if not length:
                return 0
            for byte in columns[:length, token].tolist():
                state = int(self.table[state, byte])
        return state
