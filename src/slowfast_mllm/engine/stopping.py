"""Where an answer ends before the model ends it: at the first of some strings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import StoppingCriteria

from slowfast_mllm.engine.thoughts import split_thought


def before_stop(text: str, stop: Sequence[str]) -> str:
    """What comes before the first of the strings."""
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]


class UntilStop:
    """Passes a text on that comes in pieces, up to the first of the strings, in time.

    What may yet turn out to be the beginning of one is held back.
    """

    def __init__(self, stop: Sequence[str], on_text: Callable[[str], None]) -> None:
        self._stop = stop
        self._on_text = on_text
        self._held = ""
        self._ended = False

    def put(self, piece: str, last: bool) -> None:
        if self._ended:
            return
        self._held += piece
        said = before_stop(self._held, self._stop)
        self._ended = last or len(said) < len(self._held)
        if not self._ended:
            said = said[: len(said) - self._doubtful(said)]
        self._held = self._held[len(said) :]
        if said:
            self._on_text(said)

    def _doubtful(self, text: str) -> int:
        """Characters at the end that begin one of the strings."""
        longest = max(map(len, self._stop), default=0)
        counts = range(min(longest - 1, len(text)), 0, -1)
        return next((n for n in counts if any(e.startswith(text[-n:]) for e in self._stop)), 0)


class StopAtStrings(StoppingCriteria):
    """For `generate`: ends rows in whose answer, not their thought, one of the strings is."""

    def __init__(
        self,
        stop: Sequence[str],
        decode: Callable[[list[int]], str],
        prompt_length: int,
        thinks: bool,
    ) -> None:
        self.stop = stop
        self.decode = decode
        self.prompt_length = prompt_length
        self.thinks = thinks

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """(B,) bool."""
        rows = [self.ends(row) for row in input_ids[:, self.prompt_length :].tolist()]
        return torch.tensor(rows, device=input_ids.device)

    def ends(self, new_ids: list[int]) -> bool:
        text = split_thought(self.decode(new_ids), self.thinks).answer
        return any(end in text for end in self.stop)
