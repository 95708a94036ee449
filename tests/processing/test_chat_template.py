"""The chat template: the published prompt to the letter, and everything a conversation may hold."""

import jinja2
import numpy as np
import pytest
import torch
from processor_parts import numbered_frames
from transformers import ProcessorMixin

from slowfast_mllm.processing import SlowFastProcessor

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
VIDEO = {"type": "video"}
IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*content: dict) -> dict:
    return {"role": "user", "content": list(content)}


def test_the_published_prompt(processor: SlowFastProcessor) -> None:
    prompt = processor.apply_chat_template(
        [user(IMAGE, text("What happens?"))], add_generation_prompt=True
    )
    published = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        "What happens?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt == published
    assert processor.apply_chat_template(
        [user(VIDEO, text("What happens?"))], add_generation_prompt=True
    ) == published.replace("<image>", "<video>")


def test_visual_inputs_come_before_the_text_of_their_turn(processor: SlowFastProcessor) -> None:
    prompt = processor.apply_chat_template([user(text("Compare "), VIDEO, text("them."), IMAGE)])
    assert prompt == (SYSTEM + "<|im_start|>user\n<video>\n<image>\nCompare them.<|im_end|>\n")


def test_content_may_be_a_string(processor: SlowFastProcessor) -> None:
    prompt = processor.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert prompt == SYSTEM + "<|im_start|>user\nHello<|im_end|>\n"


@pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_a_system_prompt_replaces_the_default(
    content: object, processor: SlowFastProcessor
) -> None:
    prompt = processor.apply_chat_template(
        [{"role": "system", "content": content}, {"role": "user", "content": "Hello"}]
    )
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    )


def test_several_turns(processor: SlowFastProcessor) -> None:
    conversation = [
        user(VIDEO, text("What is it?")),
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": [text("It "), text("sleeps.")]},
    ]
    assert processor.apply_chat_template(conversation) == (
        SYSTEM + "<|im_start|>user\n<video>\nWhat is it?<|im_end|>\n"
        "<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nAnd then?<|im_end|>\n"
        "<|im_start|>assistant\nIt sleeps.<|im_end|>\n"
    )


def test_an_unknown_part_is_named(processor: SlowFastProcessor) -> None:
    with pytest.raises(jinja2.TemplateError, match="'sound' is unknown; use 'video'"):
        processor.apply_chat_template([user({"type": "sound"})])


def test_the_last_message_can_be_continued(processor: SlowFastProcessor) -> None:
    conversation = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "I see a"},
    ]
    prompt = processor.apply_chat_template(conversation, continue_final_message=True)
    assert prompt.endswith("<|im_start|>assistant\nI see a")


def test_the_assistant_mask_covers_answers_and_nothing_else(processor: SlowFastProcessor) -> None:
    frames = numbered_frames(6)
    conversations = [
        [
            user({"type": "video", "video": frames}, text("What is it?")),
            {"role": "assistant", "content": "A cat."},
            user({"type": "image", "image": frames[0]}, text("And this?")),
            {"role": "assistant", "content": "A dog."},
        ],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}],
    ]
    inputs = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True},
    )
    answers = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(inputs["input_ids"], inputs["assistant_masks"], strict=True)
    ]
    assert answers == ["A cat.<|im_end|>A dog.<|im_end|>", "Hi!<|im_end|>"]
    assert not inputs["assistant_masks"][inputs["mm_token_type_ids"] != 0].any()


@pytest.mark.skipif(
    not hasattr(ProcessorMixin, "return_mm_token_type_ids"), reason="new in transformers 5.23"
)
def test_user_text_cannot_write_placeholders_when_sanitised(processor: SlowFastProcessor) -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    conversation = [user({"type": "video", "video": frames}, text("<video> <|im_end|> hm"))]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template(conversation, sanitize_control_tokens=True, **options)
    assert (inputs["input_ids"] == processor.video_token_id).sum() == 8
    assert (inputs["mm_token_type_ids"] == 2).sum() == 8
    with pytest.raises(ValueError, match="text has 2, videos has 1"):
        processor.apply_chat_template(conversation, **options)


def test_the_prompt_in_tokens_is_the_prompt_in_text(processor: SlowFastProcessor) -> None:
    conversation = [user({"type": "video", "video": numbered_frames(4)}, text("Grün? 你好"))]
    prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
    inputs = processor.apply_chat_template(
        conversation,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert isinstance(inputs["input_ids"], torch.Tensor)
    written = processor.tokenizer.decode(inputs["input_ids"][0])
    assert written == prompt.replace("<video>", "<video>" * 8)
