"""TRL's own trainers, given the path of a saved model and rows with video parts."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from slowfast_mllm import SlowFastForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1] / "processing"))
from processor_parts import tiny_model, tiny_processor

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("trl")
    path = str(tmp_path_factory.mktemp("saved"))
    tiny_model().save_pretrained(path)
    tiny_processor().save_pretrained(path)
    return path


def rows() -> list[dict]:
    """As docs/training.md shows them: a column of images, though there are none."""
    question = [{"type": "video", "path": str(CLIP)}, {"type": "text", "text": "What is it?"}]
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
    ]
    return [{"messages": messages, "images": []}] * 2


@pytest.mark.parametrize("answers_only", [False, True])
def test_supervised_training_by_path(answers_only: bool, folder: str, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        assistant_only_loss=answers_only,
        max_length=None,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    processor = AutoProcessor.from_pretrained(folder)
    data = Dataset.from_list(rows())
    trainer = SFTTrainer(folder, args=arguments, train_dataset=data, processing_class=processor)
    assert isinstance(trainer.model, SlowFastForConditionalGeneration)
    batch = trainer.data_collator(rows())
    learned = set(batch["labels"].unique().tolist()) - {-100}
    assert (batch["mm_token_type_ids"] == 2).any()
    assert processor.video_token_id not in learned
    text = processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] != -100])
    assert text == "A dog.<|im_end|>" or not answers_only
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(5.56, abs=0.3)  # ln 261


@pytest.mark.parametrize("method", ["DPO", "GRPO"])
@pytest.mark.parametrize("by_path", [True, False])
def test_models_of_reference_are_made_by_path(
    method: str, by_path: bool, folder: str, tmp_path: Path
) -> None:
    """DPO without one and GRPO with beta, of a model and of its path."""
    import trl
    from datasets import Dataset

    shared = {"output_dir": str(tmp_path), "max_steps": 1, "per_device_train_batch_size": 2}
    shared |= {"report_to": [], "use_cpu": True, "bf16": False}
    row: dict = {"prompt": [{"role": "user", "content": "Hi"}]}
    if method == "DPO":
        row["chosen"] = [{"role": "assistant", "content": "yes"}]
        row["rejected"] = [{"role": "assistant", "content": "no"}]
        options: dict = {"args": trl.DPOConfig(**shared)}
    else:
        sizes = {"num_generations": 2, "max_completion_length": 4, "beta": 0.1}
        options = {"args": trl.GRPOConfig(**shared, **sizes)}
        options["reward_funcs"] = lambda completions, **_: [1.0] * len(completions)
    model = folder if by_path else SlowFastForConditionalGeneration.from_pretrained(folder)
    trainer = getattr(trl, f"{method}Trainer")(
        model,
        train_dataset=Dataset.from_list([row] * 2),
        processing_class=AutoProcessor.from_pretrained(folder),
        **options,
    )
    assert isinstance(trainer.ref_model, SlowFastForConditionalGeneration)
    trainer.train()


def test_labels_at_placeholders_teach_nothing(folder: str) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    model = tiny_model()
    inputs = processor(text="<video>What is it?", videos=str(CLIP), return_tensors="pt")
    ids, types = inputs["input_ids"], inputs["mm_token_type_ids"]
    with torch.no_grad():
        loss = model(**inputs, labels=ids.clone()).loss
        expected = model(**inputs, labels=ids.masked_fill(types != 0, -100)).loss
    assert loss == expected
