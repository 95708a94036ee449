"""What a frozen tower makes of a stage's clips: computed once, kept on disk while the stage lasts.

The language model's epochs then cost no rendering and no vision.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from slowfast_mini.lessons.recipe import ModelRecipe, StageRecipe
from slowfast_mini.lessons.world_data import FramesDataset, SeenClipDataset, normalise
from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.model.hardware import bfloat16_is_fast
from slowfast_mllm.train.conversations import IGNORED
from slowfast_mllm.train.run_folder import full_disk_told

_CLIPS_AT_ONCE = 8


class Clips(Protocol):
    """A data set of clips: item i is uint8 (num_frames, H, W, 3)."""

    @property
    def num_frames(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class SeenClipModel(nn.Module):
    """The model behind its frozen tower: reads kept maps in place of frames.

    Checkpoints leave out the head, which is the embeddings; what tells so to the Trainer has the
    names of transformers.
    """

    _keys_to_ignore_on_save = ("model.lm_head.weight",)

    def __init__(self, model: SlowFastForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.register_state_dict_post_hook(_drop_tied_head)

    def tie_weights(self) -> None:
        self.model.tie_weights()

    def compile_layers(self) -> None:
        """Compile the decoder's layers: the first steps take minutes, the others less time."""
        for layer in self.model.model.language_model.layers:
            layer.compile(dynamic=True)

    def forward(
        self,
        maps: list[Tensor],
        motion: list[Tensor],
        timestamps: list[Tensor],
        input_ids: Tensor,
        position_ids: Tensor,
        group: Tensor,
        labels: Tensor,
        objects: list[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Batches as `ConversationCollator` makes them; returns the `loss`."""
        base = self.model.model
        found = [None] * len(maps) if objects is None else objects
        clips = zip(maps, motion, timestamps, found, strict=True)
        memories = [self.remember(*clip) for clip in clips]
        text = base(
            input_ids=input_ids,
            attention_mask=_visible(group, base.dtype),
            position_ids=position_ids,
            video_memory=memories,
            use_cache=False,
        )
        # One position of ten is an answer's: the others need no logits.
        taught = labels[:, 1:] != IGNORED
        logits = self.model.lm_head(text.last_hidden_state[:, :-1][taught])
        return {"loss": F.cross_entropy(logits.float(), labels[:, 1:][taught])}

    def remember(
        self, maps: Tensor, motion: Tensor, timestamps: Tensor, objects: Tensor | None
    ) -> VideoMemory:
        """The memory of one clip, from what `SlowFastModel.vision_maps` and its object tower made
        of it."""
        base = self.model.model
        named = None if objects is None else base.object_tokens(objects.to(base.dtype), timestamps)
        slow = base.slow_maps(maps.to(base.dtype), motion, timestamps)
        tokens = base.fast_and_slow(slow, objects=named)
        return base.remember(*tokens, timestamps)


def may_see(group: Tensor) -> Tensor:
    """Which tokens (of the last axis) each may attend, bool (B, L, L): see
    `ConversationCollator`."""
    earlier = torch.ones(group.shape[1], group.shape[1], device=group.device).tril().bool()
    reader, read = group[:, :, None], group[:, None, :]
    return earlier & ((read == 0) | (read == reader))


def _visible(group: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores, (B, 1, L, L)."""
    seen = may_see(group)
    return torch.zeros(seen.shape, dtype=dtype, device=group.device).masked_fill(
        ~seen, torch.finfo(dtype).min
    )[:, None]


def _drop_tied_head(module: nn.Module, state: dict[str, Any], *_: Any) -> None:
    state.pop("model.lm_head.weight")


def see_clips(
    model: SlowFastForConditionalGeneration,
    recipe: ModelRecipe,
    stage: StageRecipe,
    folder: Path,
    num_workers: int,
    photos: tuple[str, ...] = (),
) -> SeenClipDataset:
    """What a stage of questions trains on: see `keep_seen`."""
    clips = FramesDataset(
        stage.first_seed, stage.clips, recipe.num_frames, recipe.image_size, photos
    )
    maps, motion = keep_seen(model, clips, folder, num_workers)
    return SeenClipDataset(
        stage.first_seed,
        stage.epochs,
        stage.questions_per_clip,
        stage.question_weights,
        stage.chinese,
        stage.multiple_choice,
        maps,
        motion,
        apart=stage.apart,
    )


@torch.no_grad()
def keep_seen(
    model: SlowFastForConditionalGeneration,
    clips: Clips,
    folder: Path,
    num_workers: int,
    series: int = 1,
) -> tuple[Tensor, Tensor]:
    """Run the tower over clips, or over those that an interrupted call left.

    Args:
        folder: gets `maps.bin` and `motion.bin` (bfloat16), about 0.45 MB a clip of 32 frames.
        series: how many interleaved series the frames of a clip go through the tower as: it sees
            what moves between neighbours, and knows the spacing that it was trained at.

    Returns:
        Maps (N, T, h, w, C) and motion (N, T, h', w', 16) of the N clips.
    """
    maps, motion = vision_files(model, clips, folder)
    bfloat16 = bfloat16_is_fast(model.device)
    for index, pixels in unseen(model, clips, folder, num_workers):
        for first in range(series):
            with torch.autocast(model.device.type, torch.bfloat16, bfloat16):
                seen, moves = model.model.vision_maps(pixels[first::series])
            assert moves is not None  # models of `new_model` have motion features
            maps[index, first::series], motion[index, first::series] = seen, moves
    return maps, motion


def vision_files(
    model: SlowFastForConditionalGeneration, clips: Clips, folder: Path
) -> tuple[Tensor, Tensor]:
    """Tensors for the maps (N, T, h, w, C) and motion (N, T, h', w', 16) of N clips, in files of
    `folder`, which may hold some already."""
    vision = model.config.vision_config
    side = vision.image_size // vision.patch_size
    slow_side = side // model.config.slow_spatial_pool
    frames = (len(clips), clips.num_frames)
    folder.mkdir(parents=True, exist_ok=True)
    return (
        on_disk(folder / "maps.bin", *frames, side, side, vision.hidden_size),
        on_disk(folder / "motion.bin", *frames, slow_side, slow_side, 16),
    )


def unseen(
    model: SlowFastForConditionalGeneration, clips: Clips, folder: Path, num_workers: int
) -> Iterator[tuple[int, Tensor]]:
    """Positions and pixels (T, 3, H, W) of the clips that an interrupted walk through them left.

    `folder` keeps how far it has come: a clip counts when the next batch is asked for.
    """
    progress = folder / "clips_seen.txt"
    start = int(progress.read_text()) if progress.exists() else 0
    todo = Subset(cast(Dataset[Any], clips), range(start, len(clips)))
    batches = DataLoader(todo, _CLIPS_AT_ONCE, num_workers=num_workers, collate_fn=list)
    bar = tqdm(total=len(clips), initial=start, desc="clips through the tower")
    for batch in batches:
        for frames_of_clip in batch:
            yield start, normalise(frames_of_clip).to(model.device)
            start += 1
        written = progress.with_suffix(".new")
        written.write_text(str(start))
        written.replace(progress)
        bar.update(len(batch))
    bar.close()


def on_disk(path: Path, *shape: int) -> Tensor:
    """A tensor whose memory is a file.

    Raises:
        TrainingError: the disk has no room for it.
    """
    size = torch.Size(shape)
    path.touch()
    if hasattr(os, "posix_fallocate"):  # not on macOS; a disk full later on is no error but a crash
        with full_disk_told(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size.numel() * torch.bfloat16.itemsize)
    return torch.from_file(str(path), True, size.numel(), dtype=torch.bfloat16).view(size)
