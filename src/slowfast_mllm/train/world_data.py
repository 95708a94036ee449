"""Batches of the procedural world for the trainer: clips with dense labels, or with conversations.

A data set is a range of seeds: item i is always the same clip, so a run can be resumed exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from slowfast_mllm import world
from slowfast_mllm.model import SlowFastConfig
from slowfast_mllm.model.visual_tokens import num_fast_frames

IGNORED = -100  # label that carries no loss
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> float32 (T, 3, H, W) with CLIP statistics."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@dataclass(frozen=True)
class WorldDataset(Dataset):
    """`count` clips from `first_seed` on, `num_frames` frames of `size` x `size` pixels.

    With `keep`, what was rendered once is kept in memory for later epochs.
    """

    first_seed: int
    count: int
    num_frames: int
    size: int
    keep: bool = False
    _kept: dict[int, world.Clip] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> world.Clip:
        clip = self._kept.get(index) or self._render(self.first_seed + index)
        if self.keep:
            self._kept[index] = clip
        return clip

    def _render(self, seed: int) -> world.Clip:
        return world.sample_clip(seed, self.num_frames, self.size)


@dataclass(frozen=True)
class MomentDataset(WorldDataset):
    """One frame of each clip between its two neighbours: the most variety for the tower.

    Three of four clips that flash a glyph are met at that moment: left to chance, glyphs would be
    too rare to learn.
    """

    def _render(self, seed: int) -> world.Clip:
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, self.num_frames)
        rng = np.random.default_rng(script.seed)
        moment = int(rng.integers(1, self.num_frames - 1))
        if script.flash is not None and rng.random() < 0.75:
            seen = int(np.searchsorted(times, script.flash.time))
            moment = min(max(seen, 1), self.num_frames - 2)
        times = times[moment - 1 : moment + 2]
        labels = world.dense_labels(script, times)
        return world.Clip(script, world.render(script, times, self.size), times, labels, [])


def collate_dense(clips: Sequence[world.Clip]) -> dict[str, Tensor]:
    """Frames, and what is under each cell of all but the first and last frame.

    Returns:
        `pixel_values_videos` (B, T, 3, H, W) and, for the T' = T - 2 inner frames: `shape`,
        `color`, `glyph` (B, T', g, g) int64; `object_motion` (B, T', g, g, 2) and `camera_motion`
        (B, T', 3) float32 in cells per frame interval; `cut` (B, T') float32.
    """
    labels = [clip.labels for clip in clips]
    # The tower sees displacements between frames, not speeds.
    steps = [float(clip.timestamps[1] - clip.timestamps[0]) for clip in clips]

    def stack(name: str) -> Tensor:
        return torch.stack([torch.from_numpy(getattr(x, name)[1:-1]) for x in labels])

    scale = torch.tensor(steps, dtype=torch.float32)
    return {
        "pixel_values_videos": torch.stack([normalise(clip.frames) for clip in clips]),
        **{name: stack(name).long() for name in ("shape", "color", "glyph")},
        "object_motion": stack("object_motion").float() * scale.view(-1, 1, 1, 1, 1),
        "camera_motion": stack("camera_motion").float() * scale.view(-1, 1, 1),
        "cut": stack("cut").float(),
    }


@dataclass(frozen=True)
class ConversationCollator:
    """Clips to multi-turn conversations: one video, several questions, loss on answers only."""

    tokenizer: PreTrainedTokenizerFast
    config: SlowFastConfig
    questions_per_clip: int

    def __call__(self, clips: Sequence[world.Clip]) -> dict[str, Any]:
        rows = [self._tokens(clip) for clip in clips]
        length = max(len(ids) for ids, _ in rows)
        pad = self.tokenizer.pad_token_id

        def padded(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (length - len(values))

        return {
            "input_ids": torch.tensor([padded(ids, pad) for ids, _ in rows]),
            "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
            "labels": torch.tensor([padded(labels, IGNORED) for _, labels in rows]),
            "pixel_values_videos": torch.stack([normalise(clip.frames) for clip in clips]),
            "video_timestamps": torch.stack(
                [torch.from_numpy(clip.timestamps).float() for clip in clips]
            ),
        }

    def _tokens(self, clip: world.Clip) -> tuple[list[int], list[int]]:
        """Ids and labels of one conversation."""
        rng = np.random.default_rng(clip.script.seed)
        order = rng.permutation(len(clip.questions))[: self.questions_per_clip]
        ids: list[int] = []
        labels: list[int] = []
        for turn, index in enumerate(order):
            qa = clip.questions[index]
            prompt = self._encode(turn_prompt(qa.question, first=turn == 0))
            if turn == 0:
                prompt = self._expand(prompt, clip.frames.shape[0])
            answer = self._encode(qa.answer + "<|im_end|>")
            ids += prompt + answer
            labels += [IGNORED] * len(prompt) + answer
        return ids, labels

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _expand(self, ids: list[int], num_frames: int) -> list[int]:
        """One placeholder per fast token."""
        config = self.config
        side = config.vision_config.image_size // config.vision_config.patch_size
        side = side // config.slow_spatial_pool // config.fast_spatial_pool
        steps = num_fast_frames(
            num_frames, config.fast_frame_stride, config.fast_temporal_pool, config.min_fast_frames
        )
        place = ids.index(config.video_token_id)
        return ids[:place] + [config.video_token_id] * steps * side**2 + ids[place + 1 :]


def turn_prompt(question: str, first: bool) -> str:
    """What the chat template writes before an answer; the first turn brings the video."""
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>" if first else ""
    video = "<video>\n" if first else ""
    return f"{head}\n<|im_start|>user\n{video}{question}<|im_end|>\n<|im_start|>assistant\n"
