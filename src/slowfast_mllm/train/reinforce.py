"""Reinforcement with verifiable rewards: GRPO (arXiv 2402.03300) on records whose answer is known.

TRL's GRPO hands no videos to the model, hence this loop; it is the Trainer with another loss. Each
video is encoded once for all its answers. With `temporal_contrast` (after arXiv 2503.21776), a clip
whose frames are answered as well shuffled as in order counts less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.model.video_memory import TEXT
from slowfast_mllm.train.conversations import Encoder, usable
from slowfast_mllm.train.recipe import FineTuneStage
from slowfast_mllm.train.record import Record
from slowfast_mllm.train.record_trainer import RecordTrainer
from slowfast_mllm.train.rewards import accuracy, keeps_format
from slowfast_mllm.train.run_folder import TrainingError


@dataclass(frozen=True)
class PromptEncoder:
    """One record to a prompt and the answer that is right: the record's last one."""

    encoder: Encoder

    def __call__(self, record: Record) -> dict[str, Any]:
        """As `Encoder`, up to the answer; `expected`: its words.

        Raises:
            RecordError: as `Encoder`.
        """
        prompt = Record(record.messages[:-1], record.where)
        inputs = self.encoder(prompt, add_generation_prompt=True)
        expected = "".join(part["text"] for part in record.messages[-1]["content"])
        return {**inputs, "expected": expected}


@dataclass(frozen=True)
class PromptCollator:
    """Prompts padded on the left; their visual inputs stay with their rows."""

    pad_token_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns `input_ids`, `attention_mask` (B, L), and lists with an entry for each row."""
        rows, named = usable(items)
        prompts = [row["input_ids"] for row in rows] or [torch.tensor([self.pad_token_id])]

        def padded(values: list[Tensor], filler: int) -> Tensor:
            return pad_sequence(values, True, filler, padding_side="left")

        return {
            "input_ids": padded(prompts, self.pad_token_id),
            "attention_mask": padded([torch.ones_like(ids) for ids in prompts], 0),
            "rows": rows,
            **named,
        }


@dataclass
class Answers:
    """Sampled answers, `count` for each prompt.

    Attributes:
        ids: (B * count, L + N), prompts and answers. mask: the same, 0 at padding.
        chosen: (B * count, N), 1 for tokens up to the end of each answer.
        texts: B * count.
    """

    ids: Tensor
    mask: Tensor
    chosen: Tensor
    texts: list[str]


class ReinforceTrainer(RecordTrainer):
    """Each step samples answers, rewards them, and makes the better ones of a group likelier."""

    def __init__(
        self, stage: FineTuneStage, processor: Any, reference: nn.Module | None, **kwargs: Any
    ) -> None:
        """`reference`: the model as it was; None: the model without its adapters.

        Raises:
            TrainingError: nothing says which token ends an answer.
        """
        if _base(kwargs["model"]).generation_config.eos_token_id is None:
            raise TrainingError(
                "method: grpo: the checkpoint names no token that ends an answer; give its "
                "generation_config.json an `eos_token_id`."
            )
        self.stage, self.processor, self.reference = stage, processor, reference
        self._rewards: list[float] = []  # since the last log
        super().__init__(**kwargs)
        if reference is not None:
            reference.to(self.args.device)

    def loss_of(self, model: nn.Module, inputs: dict[str, Any], **_: Any) -> Tensor:
        with self.accelerator.autocast():  # all that is compared, at one precision
            return self._loss(model, inputs)

    def _loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        base = _base(self.accelerator.unwrap_model(model))
        rows, count = inputs["rows"], self.stage.num_answers
        memories = [_remember(base, row) for row in rows]
        answers = self.sample(base, inputs, memories)
        right = self.judge(answers.texts, rows)
        kept_format = torch.tensor([keeps_format(text) for text in answers.texts])
        rewards = right + self.stage.format_reward * kept_format
        self._rewards += rewards.tolist()
        advantages = group_advantages(rewards, count)
        if self.stage.temporal_contrast:
            # Not of the rewards: what raises all rewards of a group alike leaves no advantage.
            less = 1 - self.contrast(base, inputs, right)
            advantages = advantages - less * group_advantages(rewards, count, right)
        advantages = advantages.to(answers.ids.device)
        kept = answers.chosen.shape[1]
        types = base.model.token_types(inputs["input_ids"]).repeat_interleave(count, 0)
        types = F.pad(types, (0, kept), value=TEXT)  # what was sampled is text, placeholders too

        def log_probs(network: nn.Module, of: list[list[VideoMemory]]) -> Tensor:
            logits = network(
                input_ids=answers.ids,
                attention_mask=answers.mask,
                mm_token_type_ids=types,
                video_memory=[m for row in of for _ in range(count) for m in row],
                logits_to_keep=kept + 1,
            ).logits[:, :-1]
            logits = logits.float() / self.stage.temperature
            taken = answers.ids[:, -kept:, None]
            return logits.log_softmax(-1).gather(-1, taken)[..., 0]

        mine = log_probs(model, memories)
        with torch.no_grad():
            if self.reference is not None:
                theirs = log_probs(self.reference, [_remember(self.reference, r) for r in rows])
            else:
                unwrapped: Any = self.accelerator.unwrap_model(model)
                with unwrapped.disable_adapter():
                    theirs = log_probs(unwrapped, [_remember(base, row) for row in rows])
        return grpo_loss(mine, theirs, advantages, answers.chosen, self.stage.beta)

    @torch.no_grad()
    def sample(
        self,
        base: SlowFastForConditionalGeneration,
        inputs: dict[str, Any],
        memories: list[list[VideoMemory]],
    ) -> Answers:
        """Draw `num_answers` answers to each prompt."""
        training, settings = base.training, base.generation_config
        base.eval()
        # A checkpoint's own settings would draw from another distribution than is scored.
        base.generation_config = GenerationConfig(
            eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id
        )
        prompt = inputs["input_ids"]
        ids = base.generate(
            prompt,
            attention_mask=inputs["attention_mask"],
            video_memory=[memory for row in memories for memory in row],
            num_return_sequences=self.stage.num_answers,
            do_sample=True,
            temperature=self.stage.temperature,
            top_k=0,
            max_new_tokens=self.stage.max_new_tokens,
        )
        base.generation_config = settings
        base.train(training)
        new = ids[:, prompt.shape[1] :]
        ends = torch.as_tensor(settings.eos_token_id, device=new.device).view(-1)
        ended = torch.isin(new, ends)
        chosen = (ended.cumsum(1) - ended.long() == 0).long()  # the end token still counts
        before = inputs["attention_mask"].repeat_interleave(self.stage.num_answers, 0)
        texts = [
            self.processor.decode(row[kept == 1], skip_special_tokens=True)
            for row, kept in zip(new, chosen, strict=True)
        ]
        return Answers(ids, torch.cat([before, chosen], 1), chosen, texts)

    def judge(self, texts: list[str], rows: list[dict[str, Any]]) -> Tensor:
        """How right each answer is, (B * count,)."""
        expected = [row["expected"] for row in rows for _ in range(self.stage.num_answers)]
        return torch.tensor([accuracy(*pair) for pair in zip(texts, expected, strict=True)])

    def contrast(
        self, base: SlowFastForConditionalGeneration, inputs: dict[str, Any], right: Tensor
    ) -> Tensor:
        """How much being right counts, (B * count,): less where order does not help a group."""
        rows, count = inputs["rows"], self.stage.num_answers
        with torch.no_grad():
            shuffled = [_remember(base, row, shuffle=True) for row in rows]
        blind = self.judge(self.sample(base, inputs, shuffled).texts, rows)
        better = right.view(-1, count).mean(1) > blind.view(-1, count).mean(1)
        ordered = [any(len(v) > 1 for v in row["pixel_values_videos"]) for row in rows]
        counts = (better | ~torch.tensor(ordered)).repeat_interleave(count)
        return 1 - self.stage.temporal_contrast * (~counts).float()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self._rewards:
            logs["reward"] = sum(self._rewards) / len(self._rewards)
            self._rewards = []
        super().log(logs, *args, **kwargs)


def group_advantages(rewards: Tensor, count: int, part: Tensor | None = None) -> Tensor:
    """(B * count,) rewards -> how much better each is than its group, in standard deviations.

    Args:
        part: of the rewards; how much of that comes from it.
    """
    spread = rewards.view(-1, count).std(1, keepdim=True, unbiased=count > 1)
    groups = (rewards if part is None else part).view(-1, count)
    return ((groups - groups.mean(1, keepdim=True)) / (spread + 1e-4)).flatten()


def grpo_loss(
    log_probs: Tensor, reference: Tensor, advantages: Tensor, chosen: Tensor, beta: float
) -> Tensor:
    """The loss of one on-policy step, a mean over each answer's tokens, then over answers.

    Args:
        log_probs, reference: (B, N), of the tokens under the model and under the reference.
        advantages: (B,). chosen: (B, N), 1 where a token counts.
        beta: weight of the divergence from the reference.
    """
    ratio = (log_probs - log_probs.detach()).exp()
    apart = reference - log_probs
    divergence = apart.exp() - apart - 1
    per_token = -ratio * advantages[:, None] + beta * divergence
    return ((per_token * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()


def _base(model: Any) -> SlowFastForConditionalGeneration:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _remember(base: Any, row: dict[str, Any], shuffle: bool = False) -> list[VideoMemory]:
    """The visual inputs of one row, each encoded once."""
    images = [base.encode_image(image) for image in row["pixel_values"]]
    videos = []
    for frames, times in zip(row["pixel_values_videos"], row["video_timestamps"], strict=True):
        order = torch.randperm(len(frames)) if shuffle else slice(None)
        videos.append(base.encode_video(frames[order], times))
    return videos + images
