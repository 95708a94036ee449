"""Records to batches: reads the clips, writes the prompt, puts loss on answers only.

A record that cannot be used (a broken clip, a conversation longer than the context) is left out of
its batch and named there; it never stops a run and never turns into another record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.processing.clips import Clip
from slowfast_mllm.train.record import Message, Record, RecordError, Stored
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

    def __call__(self, record: Record, add_generation_prompt: bool = False) -> dict[str, Any]:
        """`input_ids`, `labels`, `loss_weights` (L,); `pixel_values_videos`, `video_timestamps`,
        `pixel_values`: lists, one per visual input.

        Raises:
            RecordError: a clip cannot be read, or the conversation is too long.
        """
        record.check_files()
        self.refuse_special_tokens(record)
        try:
            inputs = self.processor.apply_chat_template(
                [[_with_streams(message) for message in record.messages]],
                tokenize=True,
                return_dict=True,
                add_generation_prompt=add_generation_prompt,
                return_assistant_tokens_mask=True,
                processor_kwargs={"num_frames": self.num_frames},
            )
        except (VideoError, ValueError, OSError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]  # whole: says what to do
            raise RecordError(f"{record.where}: {first}") from error
        ids = torch.as_tensor(inputs["input_ids"][0])
        if len(ids) > self.max_length:
            raise RecordError(
                f"{record.where}: {len(ids)} tokens, more than max_length {self.max_length}."
            )
        mask = torch.as_tensor(inputs["assistant_masks"][0]).bool()
        if not (mask.any() or add_generation_prompt):
            raise RecordError(
                f"{record.where}: the checkpoint's chat template marks no answers; it needs "
                "`{% generation %}` around them, as the packaged one has."
            )
        weights = _weights(mask, record)
        visual = ("pixel_values_videos", "video_timestamps", "pixel_values")
        return {
            "where": record.where,
            "input_ids": ids,
            "labels": ids.masked_fill(weights == 0, IGNORED),
            "loss_weights": weights,
            **{name: [torch.as_tensor(x) for x in inputs.get(name, [])] for name in visual},
        }

    def refuse_special_tokens(self, record: Record) -> None:
        """Raises RecordError where words would become one: an end of a turn, a placeholder."""
        parts = [part.get("text", "") for m in record.messages for part in m["content"]]
        for token in self.processor.control_tokens:
            if any(token in text for text in (*parts, record.rejected or "")):
                raise RecordError(f"{record.where}: a special token, {token}, in its words.")


def _with_streams(message: Message) -> Message:
    """A message with streams of what is stored in a data set, and videos with their sampling."""
    return {"role": message["role"], "content": [_with_stream(p) for p in message["content"]]}


def _with_stream(part: Message) -> Message:
    kind = part["type"]
    if kind == "text":
        return part
    file = part["path"]
    if isinstance(file, list):
        file = [frame.open() if isinstance(frame, Stored) else frame for frame in file]
    elif isinstance(file, Stored):
        file = file.open()
    sampling = part.get("sampling")
    return {"type": kind, kind: Clip(file, sampling) if sampling else file}


def _weights(mask: Tensor, record: Record) -> Tensor:
    """How much each token counts: float32 (L,), 0 outside of answers.

    Args:
        mask: bool (L,); True: the token is an answer's. Each answer is one run of such tokens.
    """
    turns = [message for message in record.messages if message["role"] == "assistant"]
    if not any("weight" in message for message in turns):
        return mask.float()
    begins = mask & ~torch.cat([torch.zeros(1, dtype=torch.bool), mask[:-1]])
    if int(begins.sum()) != len(turns):
        raise RecordError(
            f"{record.where}: the checkpoint's chat template does not mark each answer by itself; "
            "`loss` of single turns needs that."
        )
    weights = torch.tensor([0.0] + [message.get("weight", 1.0) for message in turns])
    return mask * weights[begins.cumsum(0)]


@dataclass(frozen=True)
class RecordDataset(Dataset):
    """Records of one epoch, encoded when asked for; `skipped` says why one could not be."""

    records: Sequence[Record]
    encoder: Callable[[Record], dict[str, Any]]
    num_frames: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.encoder(self.records[index])
        except RecordError as error:
            return {"skipped": str(error)}

    def lengths(self) -> list[int]:
        """About how long each record is, for batches of like ones; clips count most."""
        sizes = []
        for record in self.records:
            words = sum(len(part.get("text", "")) for m in record.messages for part in m["content"])
            parts = record.visual_parts
            clips = (part for part in parts if part["type"] == "video")
            frames = sum(p.get("sampling", {}).get("num_frames", self.num_frames) for p in clips)
            sizes.append(words // 4 + 1000 * frames + 1000 * len(parts))
        return sizes


def usable(items: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """The rows that a batch can have; `records`, where they come from, and `skipped`."""
    rows = [item for item in items if "skipped" not in item]
    skipped = [item["skipped"] for item in items if "skipped" in item]
    return rows, {"records": [row["where"] for row in rows], "skipped": skipped}


@dataclass(frozen=True)
class Collator:
    """Encoded records to a batch, padded on the right."""

    pad_token_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns `input_ids`, `labels`, `attention_mask` (B, L), the visual inputs of all rows in
        order (absent where there are none), `records`: where the rows come from, and `skipped`:
        what was wrong with records that are left out; `loss_weights` (B, L) where answers weigh
        more or less than others.
        """
        rows, named = usable(items)
        if not rows:  # a step without loss keeps all processes in step
            ids = torch.tensor([self.pad_token_id])
            rows = [{"input_ids": ids, "labels": torch.tensor([IGNORED])}]
        lengths = [len(row["input_ids"]) for row in rows]
        batch: dict[str, Any] = {
            "input_ids": _padded([row["input_ids"] for row in rows], self.pad_token_id),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "attention_mask": _padded([torch.ones(n, dtype=torch.long) for n in lengths], 0),
        }
        weights = [
            row.get("loss_weights", torch.ones(n)) for row, n in zip(rows, lengths, strict=True)
        ]
        if any(((w != 0) & (w != 1)).any() for w in weights):
            batch["loss_weights"] = _padded(weights, 0)
        return {**batch, **_visual(rows), **named}


@dataclass(frozen=True)
class PreferenceEncoder:
    """One preference to the inputs of TRL's DPO: the conversation with either answer.

    Attributes:
        encoder: encodes the conversation with the better answer.
    """

    encoder: Encoder

    def __call__(self, record: Record) -> dict[str, Any]:
        """As `Encoder`, and `rejected_ids`, `rejected_labels`: the same with the worse answer.

        Raises:
            RecordError: as `Encoder`, and for a record without a worse answer.
        """
        if record.rejected is None:
            raise RecordError(f"{record.where}: no `rejected` answer to compare with.")
        inputs = self.encoder(record)
        ids, labels = inputs["input_ids"], inputs["labels"]
        # Only the last answer differs: all after the last position that carries no loss before it.
        answer = (labels != IGNORED).nonzero().flatten()
        last = int(answer[-1])
        outside = (labels[: last + 1] == IGNORED).nonzero().flatten()
        begin = int(outside[-1]) + 1
        tokenizer = self.encoder.processor.tokenizer
        words = tokenizer(record.rejected, add_special_tokens=False, return_tensors="pt").input_ids[
            0
        ]
        worse = torch.cat([ids[:begin], words, ids[last:]])
        if len(worse) > self.encoder.max_length:
            raise RecordError(
                f"{record.where}: {len(worse)} tokens with the rejected answer, more than "
                f"max_length {self.encoder.max_length}."
            )

        def only_answer(row: Tensor, end: int) -> Tensor:
            place = torch.arange(len(row))
            return row.masked_fill((place < begin) | (place > end), IGNORED)

        return {
            **inputs,
            "labels": only_answer(ids, last),
            "rejected_ids": worse,
            "rejected_labels": only_answer(worse, begin + len(words)),
        }


@dataclass(frozen=True)
class PreferenceCollator:
    """Encoded preferences to the batch of TRL's DPO: all better answers, then all worse ones."""

    pad_token_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As `Collator`, with `completion_mask` (2B, L) in place of `labels`.

        Args:
            items: each the `item` of a row, as TRL's trainer hands them on.
        """
        items = [row["item"] for row in items]
        worse = [
            {**item, "input_ids": item["rejected_ids"], "labels": item["rejected_labels"]}
            for item in items
            if "skipped" not in item
        ]
        batch = Collator(self.pad_token_id)([*items, *worse])
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        batch.pop("loss_weights", None)  # of earlier answers, which are not compared
        batch["records"] = batch["records"][: len(worse)]
        return batch


def _visual(rows: Sequence[dict[str, Any]]) -> dict[str, list[Tensor]]:
    """The visual inputs of all rows in order; nothing where there are none."""
    names = ("pixel_values_videos", "video_timestamps", "pixel_values")
    found = {name: [v for row in rows for v in row.get(name, [])] for name in names}
    return {name: values for name, values in found.items() if values}


def _padded(rows: list[Tensor], filler: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=filler)


def draw(sources: Sequence[tuple[Sequence[Record], float]], seed: int) -> list[Record]:
    """The records of every epoch, each source as often as its weight says.

    A weight of 2.5 takes each record twice and half of them, chosen by `seed`, a third time.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Record] = []
    for records, weight in sources:
        whole, part = divmod(weight, 1.0)
        drawn += list(records) * int(whole)
        extra = rng.permutation(len(records))[: round(part * len(records))]
        drawn += [records[i] for i in sorted(extra)]
    return drawn
