"""Records to batches: reads the clips, writes the prompt, puts loss on answers only.

A record that cannot be used (a broken clip, a conversation longer than the context) is left out of
its batch and named there; it never stops a run and never turns into another record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.records import Record, RecordError
from slowfast_mllm.video import VideoError

IGNORED = -100  # label that carries no loss


@dataclass(frozen=True)
class Encoder:
    """One record to the inputs of a model.

    Attributes:
        num_frames: frames of each clip.
        max_length: the longest conversation, in tokens with all placeholders.
    """

    processor: SlowFastProcessor
    num_frames: int
    max_length: int

    def __call__(self, record: Record) -> dict[str, Any]:
        """`input_ids`, `labels` (L,); `pixel_values_videos`, `video_timestamps`, `pixel_values`:
        lists, one per visual input.

        Raises:
            RecordError: a clip cannot be read, or the conversation is too long.
        """
        missing = [str(path) for _, path in record.media if not path.exists()]
        if missing:
            raise RecordError(f"{record.where}: {missing[0]}: no such file.")
        try:
            inputs = self.processor.apply_chat_template(
                [record.messages],
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
                processor_kwargs={"num_frames": self.num_frames},
            )
        except (VideoError, ValueError, OSError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise RecordError(f"{record.where}: {first}") from error
        ids = torch.as_tensor(inputs["input_ids"][0])
        if len(ids) > self.max_length:
            raise RecordError(
                f"{record.where}: {len(ids)} tokens, more than max_length {self.max_length}."
            )
        mask = torch.as_tensor(inputs["assistant_masks"][0]).bool()
        visual = ("pixel_values_videos", "video_timestamps", "pixel_values")
        return {
            "where": record.where,
            "input_ids": ids,
            "labels": ids.masked_fill(~mask, IGNORED),
            **{name: [torch.as_tensor(x) for x in inputs.get(name, [])] for name in visual},
        }


@dataclass(frozen=True)
class RecordDataset(Dataset):
    """Records of one epoch, encoded when asked for; what cannot be encoded is its `RecordError`."""

    records: Sequence[Record]
    encoder: Encoder

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any] | RecordError:
        try:
            return self.encoder(self.records[index])
        except RecordError as error:
            return error

    def lengths(self) -> list[int]:
        """About how long each record is, for batches of alike ones; text alone counts negative."""
        sizes = []
        for record in self.records:
            words = sum(len(part.get("text", "")) for m in record.messages for part in m["content"])
            frames = sum(self.encoder.num_frames for kind, _ in record.media if kind == "video")
            sizes.append(words // 4 + 1000 * frames + 1000 * len(record.media))
        return sizes


@dataclass(frozen=True)
class Collator:
    """Encoded records to a batch, padded on the right."""

    pad_token_id: int

    def __call__(self, items: Sequence[dict[str, Any] | RecordError]) -> dict[str, Any]:
        """Returns `input_ids`, `labels`, `attention_mask` (B, L), the visual inputs of all rows in
        order (absent where there are none), `records`: where the rows come from, and `skipped`:
        what was wrong with records that are left out.
        """
        rows = [item for item in items if not isinstance(item, RecordError)]
        skipped = [str(item) for item in items if isinstance(item, RecordError)]
        records = [row["where"] for row in rows]
        if not rows:  # a step without loss keeps all processes in step
            ids = torch.tensor([self.pad_token_id])
            rows = [{"input_ids": ids, "labels": torch.tensor([IGNORED])}]
        lengths = [len(row["input_ids"]) for row in rows]
        batch: dict[str, Any] = {
            "input_ids": _padded([row["input_ids"] for row in rows], self.pad_token_id),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "attention_mask": _padded([torch.ones(n, dtype=torch.long) for n in lengths], 0),
        }
        for name in ("pixel_values_videos", "video_timestamps", "pixel_values"):
            values = [value for row in rows for value in row.get(name, [])]
            if values:
                batch[name] = values
        return {**batch, "records": records, "skipped": skipped}


def _padded(rows: list[Tensor], filler: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=filler)


def draw(sources: Sequence[tuple[Sequence[Record], float]], seed: int) -> list[Record]:
    """The records of one epoch, each source as often as its weight says.

    A weight of 2.5 takes each record twice and half of them a third time, by `seed`.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Record] = []
    for records, weight in sources:
        whole, part = divmod(weight, 1.0)
        drawn += list(records) * int(whole)
        extra = rng.permutation(len(records))[: round(part * len(records))]
        drawn += [records[i] for i in sorted(extra)]
    return drawn
