"""Stage "dense": the vision tower learns what is under each cell, from labels the world knows.

The published model starts from a tower that CLIP had taught; a small one gets its start here. The
linear heads give the language model its first weights (`first_weights`) and are then thrown away.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast_mini import world
from slowfast_mllm.model import SlowFastConvNextModel
from slowfast_mllm.model.visual_tokens import add_motion_channels

# Channels of the linear head, in order.
_OUTPUTS = {
    "shape": len(world.SHAPES) + 1,
    "color": len(world.COLORS) + 1,
    "glyph": len(world.GLYPHS) + 1,
    "event": len(world.EVENTS) + 1,
    "object_motion": 2,
    "camera_motion": 4,
    "cut": 1,
    "needle": 1,
}
_EMPTY_WEIGHT = 0.05  # nineteen cells of twenty hold no object; they must not drown the others


class DenseLabelModel(nn.Module):
    """A tower and one linear head per cell."""

    def __init__(self, tower: SlowFastConvNextModel) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.config.hidden_size, sum(_OUTPUTS.values()))

    def encode(self, pixel_values_videos: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> maps (B * (T - 2), g, g, C) of the frames with two neighbours."""
        frames = torch.cat([add_motion_channels(video)[1:-1] for video in pixel_values_videos])
        return self.tower(frames).last_hidden_state.permute(0, 2, 3, 1)

    def predict(self, pixel_values_videos: Tensor) -> dict[str, Tensor]:
        """(B, T, 3, H, W) -> per output (B, T - 2, g, g, channels): frames with two neighbours."""
        outputs = self.head(self.encode(pixel_values_videos))
        outputs = outputs.unflatten(0, (len(pixel_values_videos), -1))
        return dict(zip(_OUTPUTS, outputs.split(list(_OUTPUTS.values()), dim=-1), strict=True))

    def forward(
        self,
        pixel_values_videos: Tensor,
        shape: Tensor,
        color: Tensor,
        glyph: Tensor,
        event: Tensor,
        object_motion: Tensor,
        camera_motion: Tensor,
        cut: Tensor,
        needle: Tensor,
        steady: Tensor,
    ) -> dict[str, Tensor]:
        """Labels as `collate_dense` makes them; returns the `loss`."""
        out = {name: value.float() for name, value in self.predict(pixel_values_videos).items()}
        losses = []
        classes = (("shape", shape), ("color", color), ("glyph", glyph), ("event", event))
        for name, labels in classes:
            weight = torch.ones(_OUTPUTS[name], device=labels.device)
            weight[0] = _EMPTY_WEIGHT
            logits = out[name].flatten(0, -2)
            losses.append(F.cross_entropy(logits, labels.flatten(), weight))
        moving = (shape > 0)[..., None]
        error = _motion_error(out["object_motion"], object_motion) * moving
        losses.append(error.sum() / moving.sum().clamp(min=1))
        camera = camera_motion[:, :, None, None].expand_as(out["camera_motion"])
        error = _motion_error(out["camera_motion"], camera)
        losses.append((error * steady[:, :, None, None, None]).mean())
        for name, flags in (("cut", cut), ("needle", needle)):
            each = flags[:, :, None, None, None].expand_as(out[name])
            losses.append(F.binary_cross_entropy_with_logits(out[name], each))
        return {"loss": torch.stack(losses).sum()}


def _motion_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Error of each number in quarter cells: a whole cell is a large displacement."""
    return F.smooth_l1_loss(4 * predicted, 4 * truth, reduction="none")
