"""Reinforcement: rewards say what they should, and what earns more becomes likelier."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from slowfast_mllm import load
from slowfast_mllm.train.conversations import Encoder
from slowfast_mllm.train.fine_tune import fine_tune
from slowfast_mllm.train.recipe import FineTuneRecipe, FineTuneStage, Source, Start
from slowfast_mllm.train.records import read_records
from slowfast_mllm.train.reinforce import (
    Answers,
    PromptCollator,
    PromptEncoder,
    ReinforceTrainer,
    group_advantages,
    grpo_loss,
)
from slowfast_mllm.train.rewards import accuracy, answer_of, keeps_format
from slowfast_mllm.train.run_folder import TrainingError

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "shapes.mp4"
PACKAGED = ROOT / "src" / "slowfast_mini" / "weights"


@pytest.mark.parametrize(
    ("text", "expected", "reward"),
    [
        ("It pans to the left.", "it pans to the LEFT", 1),
        ("It pans to the right.", "It pans to the left.", 0),
        ("<think>Hm.</think><answer>B</answer>", "B.", 1),
        ("<think>B</think><answer>A</answer>", "B", 0),
        ("", "B", 0),
        ("向左。", "向左", 1),
        ("From 2 to 4 seconds.", "from 2 to 4 seconds", 1),
        ("from 3 s to 5 s", "from 2 to 4 seconds", 1 / 3),
        ("from 4 to 2", "from 2 to 4 s", 1),
        ("at 3 seconds", "from 2 to 4 s", 0),
        ("from 5 to 6", "from 2 to 4 s", 0),
        ("It is up from 2 to 4.", "The score goes from 2 to 4.", 0),
        ("-3", "3", 0),
        ("12.5", "12 5", 0),
        ("", "?", 0),
    ],
)
def test_accuracy_judges_the_answer_alone(text: str, expected: str, reward: float) -> None:
    assert accuracy(text, expected) == pytest.approx(reward)


@given(st.text(), st.text())
def test_any_text_earns_between_nothing_and_one(text: str, expected: str) -> None:
    assert 0 <= accuracy(text, expected) <= 1
    assert keeps_format(text) in (0.0, 1.0)


def test_format_is_thoughts_then_an_answer() -> None:
    good = "<think>It moves.</think>\n<answer>Left</answer>"
    assert (keeps_format(good), answer_of(good)) == (1.0, "Left")
    two = good + " or <answer>Right</answer>"
    for bad in ("Left", "<answer>Left</answer>", good + " So.", good.replace("</think>", ""), two):
        assert keeps_format(bad) == 0.0


def test_the_loss_is_that_of_trl_on_text(tmp_path: Path, monkeypatch) -> None:
    """TRL's own trainer takes a step on a text model; its batch gives the same loss here."""
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    tokenizer = AutoTokenizer.from_pretrained(PACKAGED)
    torch.manual_seed(0)
    shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **shape)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    seen: list[tuple[dict, torch.Tensor, torch.Tensor]] = []
    compute = trl.GRPOTrainer._compute_loss

    def watch(self: object, model: torch.nn.Module, inputs: dict, *rest: object) -> torch.Tensor:
        loss = compute(self, model, inputs, *rest)
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        kept = inputs["completion_ids"].shape[1]
        logits = model(ids, attention_mask=mask).logits[:, -kept - 1 : -1].log_softmax(-1)
        own = logits.gather(-1, ids[:, -kept:, None])[..., 0]
        seen.append((inputs, own.detach(), loss.detach()))
        return loss

    monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", watch)
    arguments = trl.GRPOConfig(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=4, num_generations=4,
        max_completion_length=6, beta=0.1, learning_rate=1e-2, use_cpu=True, bf16=False,
        report_to=[], loss_type="grpo", save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    trl.GRPOTrainer(
        model=str(tmp_path / "text"),
        args=arguments,
        processing_class=tokenizer,
        reward_funcs=lambda completions, **_: [float(len(set(c))) for c in completions],
        train_dataset=datasets.Dataset.from_list([{"prompt": "What happens?"}] * 8),
    ).train()
    assert len(seen) == 2
    for inputs, own, loss in seen:
        mine = grpo_loss(
            own, inputs["ref_per_token_logps"], inputs["advantages"], inputs["completion_mask"], 0.1
        )
        torch.testing.assert_close(mine, loss, rtol=1e-4, atol=1e-5)


def test_advantages_compare_within_a_group() -> None:
    got = group_advantages(torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1]), 4)
    assert got[0] > 1
    assert (got[1:4] < 0).all()
    assert got[4:].tolist() == [0.0] * 4  # nothing to learn where all are alike


def test_parts_of_a_reward_make_its_advantage() -> None:
    right, kept = torch.tensor([1.0, 0, 0, 1]), torch.tensor([0.0, 0.5, 0, 0.5])
    whole = group_advantages(right + kept, 4)
    parts = [group_advantages(right + kept, 4, part) for part in (right, kept)]
    torch.testing.assert_close(sum(parts), whole)


def test_clips_that_are_answered_as_well_shuffled_count_less() -> None:
    right = torch.tensor([1.0, 0, 1, 0, 1, 0])  # two answers to each of three prompts
    shuffled = torch.tensor([0.0, 0, 1, 0, 1, 0])
    trainer = SimpleNamespace(
        stage=SimpleNamespace(temporal_contrast=0.75, num_answers=2),
        sample=lambda *_: SimpleNamespace(texts=[]),
        judge=lambda *_: shuffled,
    )
    model = SimpleNamespace(encode_video=lambda *_: None, encode_image=lambda *_: None)
    clip = {"pixel_values": [], "pixel_values_videos": [torch.zeros(4)], "video_timestamps": [0]}
    photo = {"pixel_values": [0], "pixel_values_videos": [], "video_timestamps": []}
    counts = ReinforceTrainer.contrast(trainer, model, {"rows": [clip, clip, photo]}, right)
    assert counts.tolist() == [1, 1, 0.25, 0.25, 1, 1]


def records(folder: Path, answer: str) -> Path:
    shutil.copy(CLIP, folder / "clip.mp4")
    rows = [
        {
            "video": "clip.mp4",
            "conversations": [
                {"from": "human", "value": "<video>\nHow many times does the heart jump?"},
                {"from": "gpt", "value": answer},
            ],
        }
    ]
    path = folder / "records.json"
    path.write_text(json.dumps(rows))
    return path


def plan(path: Path, **changes: object) -> FineTuneRecipe:
    settings: dict = dict(
        method="grpo", batch_size=1, logging_steps=1, max_new_tokens=8, beta=0.01,
        gradient_checkpointing=False, warmup=0, num_answers=8,
    )  # fmt: skip
    settings |= changes
    stage = FineTuneStage(
        "reinforce", [Source(str(path), weight=12)], ["slow", "language_model"], 1e-4, **settings
    )
    return FineTuneRecipe(
        "test", 3, Start(checkpoint=str(PACKAGED)), [stage], num_frames=8, bf16=False
    )


def probability(folder: Path, path: Path, answer: str) -> float:
    """Of the expected answer."""
    assistant = load(folder)
    (record,) = read_records(path)
    row = PromptEncoder(Encoder(assistant.processor, 8, 512))(record)
    end = assistant.processor.tokenizer(answer + "<|im_end|>", return_tensors="pt").input_ids
    ids = torch.cat([row["input_ids"][None], end], 1)
    with torch.no_grad():
        memory = assistant.model.encode_video(
            row["pixel_values_videos"][0], row["video_timestamps"][0]
        )
        logits = assistant.model(input_ids=ids, video_memory=memory).logits[0, -end.shape[1] - 1 :]
    return float(logits[:-1].log_softmax(-1).gather(-1, end[0, :, None]).sum().exp())


@pytest.mark.parametrize("changes", [{}, {"temporal_contrast": 0.3, "format_reward": 0.2}])
def test_what_earns_a_reward_becomes_likelier(tmp_path: Path, changes: dict) -> None:
    path = records(tmp_path, "It does not jump.")
    before = probability(PACKAGED, path, "It does not jump.")
    model = fine_tune(plan(path, **changes), tmp_path / "run", num_workers=0)
    state = json.loads(
        next((tmp_path / "run" / "reinforce").glob("checkpoint-*/trainer_state.json")).read_text()
    )
    assert all(0 <= log["reward"] <= 1.5 for log in state["log_history"] if "loss" in log)
    assert 0.01 < before < 0.9
    assert probability(model, path, "It does not jump.") > before


def test_a_sampled_placeholder_is_a_word(tmp_path: Path, monkeypatch) -> None:
    sample = ReinforceTrainer.sample

    def with_placeholders(self: ReinforceTrainer, *args: object) -> Answers:
        answers = sample(self, *args)
        kinds = [self.processor.image_token_id, self.processor.video_token_id]
        answers.ids[:, -2:] = torch.tensor(kinds)
        return answers

    monkeypatch.setattr(ReinforceTrainer, "sample", with_placeholders)
    assert fine_tune(plan(records(tmp_path, "No."), max_steps=1), tmp_path / "run", num_workers=0)


def test_answers_are_drawn_as_they_are_scored() -> None:
    """Whatever else a checkpoint's own settings say."""
    assistant = load(PACKAGED)
    model, inputs = assistant.model, assistant.processor.tokenizer("What?", return_tensors="pt")
    trainer = SimpleNamespace(
        stage=SimpleNamespace(num_answers=2, temperature=1.0, max_new_tokens=8),
        processor=assistant.processor,
    )
    plain = model.generation_config
    wild = GenerationConfig(**plain.to_dict() | {"num_beams": 2, "min_p": 0.9, "top_k": 1})
    drawn = []
    for model.generation_config in (plain, wild):
        torch.manual_seed(0)
        drawn.append(ReinforceTrainer.sample(trainer, model, inputs, []).texts)
    assert drawn[0] == drawn[1]
    assert model.generation_config is wild
    wild.eos_token_id = None
    with pytest.raises(TrainingError, match="no token that ends an answer"):
        ReinforceTrainer(trainer.stage, trainer.processor, None, model=model)


def test_prompts_are_padded_on_the_left() -> None:
    rows = [{"where": str(n), "input_ids": torch.arange(1, n)} for n in (3, 5)]
    batch = PromptCollator(pad_token_id=9)([*rows, {"skipped": "why"}])
    assert batch["input_ids"].tolist() == [[9, 9, 1, 2], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert batch["skipped"] == ["why"]
