"""The packaged model knows nothing but what it sees: without video or image it says so."""

from pathlib import Path

import pytest
import torch
from transformers import pipeline

from slowfast_mllm import SlowFast, load

CLIP = str(Path(__file__).parents[2] / "examples" / "shapes.mp4")
SAID = "There is nothing to look at. Give a video or an image."


@pytest.fixture(scope="module")
def packaged() -> SlowFast:
    return load(device="cpu")


def chat(question: str, *media: dict) -> list[dict]:
    return [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]


def test_in_a_pipeline(packaged: SlowFast) -> None:
    pipe = pipeline("image-text-to-text", model=packaged.model, processor=packaged.processor)
    chats = [chat("What happens?"), chat("Which shape moves to the left?")]
    found = pipe(chats, batch_size=2, max_new_tokens=40, return_full_text=False)
    assert [row[0]["generated_text"] for row in found] == [SAID, SAID]


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2, "temperature": 1.5}],
    ids=str,
)
def test_beside_a_question_about_a_clip(options: dict, packaged: SlowFast) -> None:
    looking = chat("What happens?", {"type": "video", "path": CLIP})
    inputs = packaged.processor.apply_chat_template(
        [looking, chat("Does the star stay still?")],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True},
    )
    alone = {**inputs, **{n: inputs[n][:1] for n in ("input_ids", "attention_mask")}}
    alone["mm_token_type_ids"] = inputs["mm_token_type_ids"][:1]
    answers = packaged.model.generate(**inputs, max_new_tokens=40, **options)
    begin = inputs["input_ids"].shape[1]
    words = packaged.processor.batch_decode(answers[:, begin:], skip_special_tokens=True)
    half = len(words) // 2
    assert words[half:] == [SAID] * half
    assert SAID not in words[:half]
    if not options:
        expected = packaged.model.generate(**alone, max_new_tokens=40)[0, begin:]
        assert torch.equal(answers[0, begin:][: len(expected)], expected)
