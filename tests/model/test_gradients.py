"""Gradients: they reach every part, checkpointing keeps them, and a few steps fit one answer."""

import pytest
import torch
from tiny_models import assert_close, one_video_prompt, pad, tiny_model, video

from slowfast_mllm.model import SlowFastForConditionalGeneration

INPUTS = pad([one_video_prompt(6), [9, *one_video_prompt(3)], [5, 6, 7]], side="right")
VIDEOS = [video(6, seed=1), video(3, seed=2)]


def gradients(model: SlowFastForConditionalGeneration) -> dict[str, torch.Tensor]:
    model.train().zero_grad()
    labels = INPUTS["input_ids"].masked_fill(INPUTS["attention_mask"] == 0, -100)
    labels = labels.masked_fill(labels > 99, -100)
    model(**INPUTS, pixel_values_videos=VIDEOS, labels=labels).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module", params=["convnext", "positions and motion"])
def settings(request: pytest.FixtureRequest) -> dict:
    if request.param == "convnext":
        return {}
    return {
        "vision": {"num_channels": 5},
        "motion_features": True,
        "visual_position_encoding": True,
    }


def test_gradients_reach_every_parameter(settings: dict) -> None:
    model = tiny_model(**settings)
    found = gradients(model)
    assert found.keys() == dict(model.named_parameters()).keys()
    silent = [name for name, gradient in found.items() if not gradient.any()]
    # A bias on all keys of an attention shifts all its scores alike: no gradient but rounding.
    assert not [name for name in silent if not name.endswith("k_proj.bias")]


@pytest.mark.parametrize("options", [None, {}, {"use_reentrant": False}, {"use_reentrant": True}])
def test_checkpointing_keeps_the_gradients(settings: dict, options: dict | None) -> None:
    model = tiny_model(**settings)
    expected = gradients(model)
    model.activation_checkpointing_enable(options)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_checkpointing_recomputes_the_tower_and_the_language_model() -> None:
    model = tiny_model()
    model.activation_checkpointing_enable()
    layers = [
        model.model.language_model.layers[0].mlp,
        model.model.vision_tower.stages[0].blocks[0].mlp,
    ]
    calls = [0, 0]

    def count(index: int):
        def hook(*_):
            calls[index] += 1

        return hook

    for i, layer in enumerate(layers):
        layer.register_forward_pre_hook(count(i))
    gradients(model)
    assert calls == [2, 4]  # once more in the backward pass; the tower runs once per video


def test_a_frozen_tower_and_language_model_still_train_the_new_parts() -> None:
    model = tiny_model()
    model.model.vision_tower.requires_grad_(False)
    model.model.language_model.requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.requires_grad_("cross_attn" in name or "multi_modal_projector" in name)
    model.lm_head.requires_grad_(False)
    plain = gradients(model)
    model.activation_checkpointing_enable({"use_reentrant": True})
    checked = gradients(model)
    assert (
        plain.keys()
        == checked.keys()
        == {n for n, p in model.named_parameters() if p.requires_grad}
    )
    for name, gradient in plain.items():
        torch.testing.assert_close(checked[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_labels_are_shifted_and_ignored_positions_do_not_count() -> None:
    model = tiny_model()
    ids = torch.tensor([one_video_prompt()])
    labels = torch.full_like(ids, -100)
    labels[0, -1] = ids[0, -1]
    with torch.no_grad():
        outputs = model(input_ids=ids, pixel_values_videos=video()[None], labels=labels)
    expected = -outputs.logits[0, -2].log_softmax(-1)[ids[0, -1]]
    assert outputs.loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_logits_to_keep() -> None:
    model = tiny_model()
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        whole = model(**inputs).logits
        assert_close(model(**inputs, logits_to_keep=2).logits, whole[:, -2:], atol=1e-5)
        some = torch.tensor([0, 3])
        assert_close(model(**inputs, logits_to_keep=some).logits, whole[:, some], atol=1e-5)


def test_outputs_as_a_tuple() -> None:
    model = tiny_model()
    inputs = {**pad([one_video_prompt()]), "pixel_values_videos": video()[None]}
    with torch.no_grad():
        outputs = model(**inputs, return_dict=False)
    assert isinstance(outputs, tuple)
    assert outputs[0].shape == (1, 17, 99)


def test_some_steps_teach_an_answer_that_only_the_video_tells() -> None:
    """Two videos, one question, two answers."""
    model = tiny_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    prompts = pad([[*one_video_prompt(4), 50], [*one_video_prompt(4), 60]])
    labels = torch.full_like(prompts["input_ids"], -100)
    labels[:, -1] = prompts["input_ids"][:, -1]
    pixels = [video(4, seed=1), video(4, seed=2)]
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(**prompts, pixel_values_videos=pixels, labels=labels).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
