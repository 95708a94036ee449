"""The pipeline of transformers: batches are answered as one by one, or refused in one line."""

import copy
from typing import Any

import pytest
import torch
from processor_parts import tiny_processor
from transformers import Pipeline, pipeline
from transformers.pipelines.base import pad_collate_fn

from slowfast_mllm.model import SlowFastForConditionalGeneration

ALL = {"do_sample_frames": False}
PICTURE = torch.full((40, 50, 3), 90, dtype=torch.uint8)


@pytest.fixture(scope="module")
def pipe(model: SlowFastForConditionalGeneration) -> Pipeline:
    """Random weights, moved enough that what was seen decides what is said."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
            if name.endswith("gate.scale"):
                weight.add_(1.0)
    return pipeline("image-text-to-text", model=model, processor=tiny_processor())


def chat(question: str, *media: tuple[str, Any]) -> list[dict]:
    content = [{"type": kind, kind: source} for kind, source in media]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def answers(pipe: Pipeline, chats: list, batch_size: int) -> list[str]:
    """What is said to each, as tokens: text of a random model may be no text."""
    found = pipe(
        chats,
        batch_size=batch_size,
        max_new_tokens=8,
        return_tensors=True,
        processor_kwargs=dict(ALL),  # into which the pipeline writes
    )
    rows = [row[0] if isinstance(row, list) else row for row in found]
    return [row["generated_token_ids"][-8:].tolist() for row in rows]


def test_a_batch_of_clips_of_different_length(pipe: Pipeline, clip: str, short_clip: str) -> None:
    chats = [chat("Why?", ("video", clip)), chat("What happens?", ("video", short_clip))]
    alone = answers(pipe, chats, 1)
    assert alone[0] != alone[1]
    assert answers(pipe, chats, 2) == alone


def test_frames_that_fill_up_are_not_looked_at_on_either_side(
    pipe: Pipeline, clip: str, short_clip: str
) -> None:
    processor, tokenizer = pipe.processor, copy.deepcopy(pipe.tokenizer)
    rows = [
        processor(text="<video> hm", videos=path, return_tensors="pt", **ALL)
        for path in (clip, short_clip)
    ]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = pad_collate_fn(tokenizer, None)(rows)
        with torch.no_grad():
            together = pipe.model(**batch).logits
            for row, logits, mask in zip(rows, together, batch["attention_mask"], strict=True):
                alone = pipe.model(**row).logits[0]
                torch.testing.assert_close(logits[mask.bool()], alone, atol=1e-4, rtol=1e-4)


def test_several_clips_in_a_prompt(pipe: Pipeline, clip: str, short_clip: str) -> None:
    """Ragged ones come as lists; of equal ones the pipeline keeps the first only: refused."""
    chats = [
        chat("Why?", ("video", clip), ("video", short_clip)),
        chat("What happens?", ("video", short_clip), ("video", clip)),
    ]
    assert answers(pipe, chats, 2) == answers(pipe, chats, 1)
    with pytest.raises(ValueError, match="batch_size=1"):
        answers(pipe, [chat("Why?", ("video", clip), ("video", clip))] * 2, 2)


def test_batches_of_other_kinds(pipe: Pipeline, clip: str) -> None:
    image, words = chat("Why?", ("image", PICTURE.numpy())), chat("What happens in the end?")
    assert answers(pipe, [image, image], 2) == answers(pipe, [image, image], 1)
    assert answers(pipe, [words, chat("Why?")], 2) == answers(pipe, [words, chat("Why?")], 1)
    with pytest.raises(ValueError, match="different keys") as caught:
        answers(pipe, [chat("Why?", ("video", clip)), words], 2)
    assert "\n" not in str(caught.value)
