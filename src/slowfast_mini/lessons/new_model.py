"""A model and a tokenizer made from nothing, for training on the procedural world."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config

from slowfast_mini import world
from slowfast_mini.lessons.recipe import ModelRecipe
from slowfast_mini.lessons.simulated_objects import Bank, simulate
from slowfast_mini.things import CLASSES, gather_things, thing_questions
from slowfast_mllm import processing
from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastForConditionalGeneration,
    SlowFastVisionConfig,
)

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
_NOTHING_TO_SEE = "There is nothing to look at. Give a video or an image."
CHAT_TEMPLATE = Path(processing.__file__).with_name("chat_template.jinja")


def new_tokenizer(
    vocab_size: int, num_scripts: int = 4000, things: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE taught on the world's questions and answers, and on those about everyday
    things where `things` says so; any other text is spelled out.

    No token has more than one Chinese character: Chinese writes no blanks, so that whole questions
    would become tokens, and a question in other words would consist of tokens hardly ever met.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = _world_text(num_scripts)
    if things:
        text = chain(text, _things_text(num_scripts))
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side="left",
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
    )


def _world_text(num_scripts: int) -> Iterator[str]:
    """Questions and answers of scripts that no stage trains on."""
    yield "system\nYou are a helpful assistant.\nuser\nassistant\n"
    for seed in range(num_scripts):
        script = world.sample_script(10**9 + seed)
        times = np.linspace(0, script.duration, 32, endpoint=False)
        language = "zh-TW" if seed % 3 == 0 else "en"
        for qa in world.questions(script, seed, times, language, multiple_choice=0.1):
            yield qa.question
            yield qa.answer


def _things_text(num_clips: int) -> Iterator[str]:
    """Questions and answers about things that are all as sure."""
    number = len(CLASSES)
    bank = Bank(np.eye(number) * 0.7 + 0.01, np.full((number, 2), 0.2), np.arange(number))
    for seed in range(num_clips):
        rng = np.random.default_rng([10**9, seed])
        times = world.frame_times(float(rng.uniform(4, 12)), 32)
        objects = simulate(rng, times, bank, num_objects=10).numpy()
        facts = gather_things(objects, times, float(times[-1] + times[1]))
        for qa in thing_questions(facts, rng, "zh-TW" if seed % 3 == 0 else "en"):
            yield qa.question
            yield qa.answer


def new_model(
    recipe: ModelRecipe, tokenizer: PreTrainedTokenizerFast
) -> SlowFastForConditionalGeneration:
    """A Slow-Fast model with random weights; seed torch first."""
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_kv_heads,
        max_position_embeddings=4096,
        # Slow keys carry no position: a query that turns fast with its own would find nothing.
        rope_parameters={"rope_type": "default", "rope_theta": 1e7},
        # The usual 0.02 is made for widths of thousands; here it would leave all attention flat.
        initializer_range=recipe.hidden_size**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = SlowFastVisionConfig(
        image_size=recipe.image_size,
        num_channels=5,
        depths=recipe.vision_depths,
        hidden_sizes=recipe.vision_dims,
        layer_scale_init=0.2,  # a shallow tower needs little protection from its own depth
    )
    config = SlowFastConfig(
        text_config=text,
        vision_config=vision,
        hybrid_layers=recipe.hybrid_layers,
        slow_spatial_pool=recipe.slow_spatial_pool,
        fast_temporal_pool=recipe.fast_temporal_pool,
        fast_spatial_pool=recipe.fast_spatial_pool,
        min_fast_frames=recipe.min_fast_frames,
        motion_features=True,
        visual_position_encoding=True,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        tie_word_embeddings=True,
        answer_without_vision=[*tokenizer.encode(_NOTHING_TO_SEE), tokenizer.eos_token_id],
    )
    model = SlowFastForConditionalGeneration(config)
    _open_gates(model)
    return model


@torch.no_grad()
def _open_gates(model: SlowFastForConditionalGeneration) -> None:
    """There is no trained language model to protect, so the slow path starts open."""
    for index in model.config.hybrid_layers:
        gate = model.model.language_model.layers[index].self_attn.cross_attn.gate
        gate.proj.bias.fill_(1.0)
        gate.scale.fill_(1.0)
