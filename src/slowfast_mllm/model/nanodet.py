"""NanoDet-g as a vision model: a small detector that has seen the 80 kinds of things of COCO.

`given` says what it gives out: deep maps, maps of class scores, or objects: boxes decoded, followed
through the frames, each a token with its class scores, place, colour and motion. Architecture and
training of the published weights: RangiLyu/nanodet (Apache-2.0), config nanodet-g. Names of
modules are ours.
"""

from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from slowfast_mllm.model.object_tracks import (
    NUM_FEATURES,
    Detections,
    colors_of,
    features_of,
    follow,
    without_overlaps,
)

# What its weights were trained on: BGR, 0..255.
_MEAN, _STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
_SLOPE = 0.1
_TOGETHER = 8  # frames whose maps a CPU's cache holds in good part; a third quicker than 32
_BORDER = 0.01  # two thirds of a level of 255: nothing but the mean colour itself
_MAPS = ("c3", "c4", "c5", "p3", "p4", "p5", "h3", "h4", "h5")


class NanoDetConfig(PreTrainedConfig):
    """Configuration of NanoDet-g.

    Attributes:
        given: "maps": the `layers`, brought to the size of the coarsest and put one after the
            other; "scores": for each cell of the coarsest stride the highest score of each class;
            "objects": tokens of what is found and followed.
        layers: of the backbone (c3, c4, c5), the pyramid (p3 to p5) or the head (h3 to h5).
        num_classes: kinds of things.
        stem_width, stage_blocks, pyramid_width: the network.
        strides: pixels a cell at each level of the head.
        num_bins: of the distribution of each side of a box.
        num_objects: tokens a frame ("objects").
        score_threshold: below it nothing is found.
        image_mean, image_std: with which frames come in, RGB of 0..1.
        image_size: of a frame, in pixels; others are read too, of multiples of 32.
    """

    model_type = "slowfast_nanodet"
    base_config_key = "vision_config"

    given: Literal["maps", "scores", "objects"] = "maps"
    layers: list[str] | tuple[str, ...] = ("c5", "h5")
    num_classes: int = 80
    stem_width: int = 32
    stage_blocks: list[int] | tuple[int, ...] = (1, 2, 2, 3)
    pyramid_width: int = 128
    strides: list[int] | tuple[int, ...] = (8, 16, 32)
    num_bins: int = 11
    num_objects: int = 10
    score_threshold: float = 0.25
    image_mean: list[float] | tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: list[float] | tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    image_size: int = 320
    num_channels: int = 3
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        unknown = [name for name in self.layers if name not in _MAPS]
        if unknown or not self.layers:
            raise ValueError(f"layers: {unknown or 'none'}; choose from {', '.join(_MAPS)}.")

    @property
    def level_widths(self) -> dict[str, int]:
        """Channels of each map."""
        backbone = {f"c{level}": self.stem_width * 2 ** (level - 1) for level in (3, 4, 5)}
        return backbone | {name: self.pyramid_width for name in _MAPS[3:]}

    @property
    def hidden_size(self) -> int:
        """Channels of what is given out."""
        if self.given == "objects":
            return self.num_classes + NUM_FEATURES
        if self.given == "scores":
            return self.num_classes
        return sum(self.level_widths[name] for name in self.layers)

    def places_of(self, objects: Tensor) -> Tensor:
        """Of tokens (..., hidden_size): centre x and y, and how far it moved (..., 4)."""
        first = self.num_classes
        return torch.cat([objects[..., first : first + 2], objects[..., -2:]], -1)

    @property
    def patch_size(self) -> int:
        """Pixels a cell of the map that is given out."""
        levels = [int(name[1]) for name in self.layers] if self.given == "maps" else [5]
        return 2 ** max(levels)


def _conv(inner: int, outer: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, kernel, stride, kernel // 2)


def _act(hidden: Tensor) -> Tensor:
    # In place: beside the convolutions it was memory that took the time.
    return F.leaky_relu(hidden, _SLOPE, inplace=True)


class NanoDetStage(nn.Module):
    """(N, width, h, w) -> (N, 2 * width, h / stride, w / stride)."""

    def __init__(self, width: int, num_blocks: int, stride: int) -> None:
        super().__init__()
        self.enter = _conv(width, width, 3, stride)
        self.narrow = nn.ModuleList(_conv(width, width // 2) for _ in range(num_blocks))
        self.deep = nn.ModuleList(_conv(width // 2, width // 2) for _ in range(num_blocks))
        self.leave = _conv(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        first = last = _act(self.enter(hidden))
        for narrow, deep in zip(self.narrow, self.deep, strict=True):
            part = _act(narrow(last))
            last = torch.cat([_act(deep(part)), part], 1)
        return torch.cat([_act(self.leave(last)), first], 1)


class NanoDetModel(PreTrainedModel):
    """The detector; `forward` gives out what the config says, `detect` and `link` its two halves
    where frames come in pieces."""

    config: NanoDetConfig
    config_class = NanoDetConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["NanoDetStage"]
    # It has no attention, so every implementation that the language model may ask for fits.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__(config)
        width, blocks = config.stem_width, config.stage_blocks
        self.stem = _conv(config.num_channels, width, 3, 2)
        self.stages = nn.ModuleList(
            NanoDetStage(width * 2**i, count, 1 if i == 0 else 2) for i, count in enumerate(blocks)
        )
        widths = config.level_widths
        self.lateral = nn.ModuleList(
            _conv(widths[f"c{level}"], config.pyramid_width, 1) for level in (3, 4, 5)
        )
        width, outputs = config.pyramid_width, config.num_classes + 4 * config.num_bins
        self.head = nn.ModuleList(_conv(width, width) for _ in config.strides)
        self.predictors = nn.ModuleList(_conv(width, outputs, 1) for _ in config.strides)
        self.post_init()

    def maps(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Frames (N, 3, H, W) -> maps c3 to c5, p3 to p5, h3 to h5 at strides 8, 16, 32."""
        hidden = _act(self.stem(self._normalised(pixel_values)))
        hidden = F.max_pool2d(hidden, 3, 2, 1)
        backbone = []
        for stage in self.stages:
            hidden = stage(hidden)
            backbone.append(hidden)
        l3, l4, l5 = (
            lateral(level) for lateral, level in zip(self.lateral, backbone[1:], strict=True)
        )
        m4 = l4 + _resized(l5, l4)
        p3 = l3 + _resized(m4, l3)
        p4 = m4 + _resized(p3, m4)
        p5 = l5 + _resized(p4, l5)
        heads = [_act(head(p)) for head, p in zip(self.head, (p3, p4, p5), strict=True)]
        return dict(zip(_MAPS, (*backbone[1:], p3, p4, p5, *heads), strict=True))

    def _normalised(self, pixel_values: Tensor) -> Tensor:
        """What the weights expect of frames with the statistics of the config; padded to 32."""
        statistics = (self.config.image_mean, self.config.image_std, _MEAN, _STD)
        mean, std, wanted_mean, wanted_std = map(pixel_values.new_tensor, statistics)
        scale, shift = (
            std.flip(0) * 255 / wanted_std,
            (mean.flip(0) * 255 - wanted_mean) / wanted_std,
        )
        picture = shift.view(3, 1, 1).addcmul(pixel_values.flip(1), scale.view(3, 1, 1))
        height, width = picture.shape[-2:]
        padded = F.pad(picture, (0, -width % 32, 0, -height % 32))
        return padded.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _picture(self, pixel_values: Tensor) -> Tensor:
        """RGB of 0..1 again."""
        mean, std = (
            pixel_values.new_tensor(values).view(1, 3, 1, 1)
            for values in (self.config.image_mean, self.config.image_std)
        )
        return pixel_values * std + mean

    def predictions(self, maps: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """By stride: scores before the sigmoid (N, classes, h, w), box bins (N, 4 * bins, h, w)."""
        out = [last(maps[f"h{i}"]) for i, last in zip((3, 4, 5), self.predictors, strict=True)]
        classes = self.config.num_classes
        return [o[:, :classes] for o in out], [o[:, classes:] for o in out]

    def detect(self, pixel_values: Tensor) -> list[Detections]:
        """What is found in each of the frames (T, 3, H, W); borders are not looked at.

        Frames that are the same as the one before (a still, a slide) are looked at once.
        """
        new = [not (i and torch.equal(p, pixel_values[i - 1])) for i, p in enumerate(pixel_values)]
        shown = _shown(pixel_values)
        if not all(new):
            pixel_values = pixel_values[torch.tensor(new, device=pixel_values.device)]
        parts = pixel_values.split(_TOGETHER)
        found = [detections for part in parts for detections in self._detect(part, shown)]
        return [found[number - 1] for number in accumulate(new)]

    def _detect(self, pixel_values: Tensor, shown: tuple[int, int, int, int]) -> list[Detections]:
        """What is found in frames within left, top, right, bottom."""
        left, top, right, bottom = shown
        scores, bins = self.predictions(self.maps(pixel_values[..., top:bottom, left:right]))
        found = torch.cat([s.float().flatten(2).sigmoid() for s in scores], 2).transpose(1, 2)
        boxes = torch.cat(
            [self._boxes(*at) for at in zip(bins, self.config.strides, strict=True)], 1
        )
        height, width = pixel_values.shape[-2:]
        low, high = boxes.new_tensor([left, top] * 2), boxes.new_tensor([right, bottom] * 2)
        boxes = (boxes + low).clamp(low, high) / boxes.new_tensor([width, height, width, height])
        pictures = self._picture(pixel_values)
        detections = []
        for frame_scores, frame_boxes, picture in zip(found, boxes, pictures, strict=True):
            kept = without_overlaps(frame_scores, frame_boxes, self.config.score_threshold)
            some = frame_boxes[kept]
            detections.append(Detections(frame_scores[kept], some, colors_of(picture, some)))
        return detections

    def _boxes(self, bins: Tensor, stride: int) -> Tensor:
        """(N, 4 * bins, h, w) -> corners (N, h * w, 4) in pixels."""
        count, _, rows, columns = bins.shape
        weights = bins.float().reshape(count, 4, self.config.num_bins, rows, columns).softmax(2)
        steps = torch.arange(float(self.config.num_bins), device=bins.device).view(1, 1, -1, 1, 1)
        left, up, right, down = ((weights * steps).sum(2) * stride).unbind(1)
        y, x = torch.meshgrid(
            (torch.arange(rows, device=bins.device) + 0.5) * stride,
            (torch.arange(columns, device=bins.device) + 0.5) * stride,
            indexing="ij",
        )
        return torch.stack([x - left, y - up, x + right, y + down], -1).flatten(1, 2)

    def link(self, detections: list[Detections]) -> Tensor:
        """Detections of T frames -> tokens (T, num_objects, hidden_size); a column is a track."""
        tracks = follow(detections, self.config.num_objects)
        return features_of(
            tracks, len(detections), self.config.num_objects, self.config.num_classes
        )

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Look at frames.

        Args:
            pixel_values: (T, 3, H, W), with the statistics of the config.

        Returns:
            `last_hidden_state`: a map (T, hidden_size, h, w), or of objects tokens
            (T, num_objects, hidden_size), for which the frames are those of one clip in order.
        """
        if self.config.given == "objects":
            return BaseModelOutput(last_hidden_state=self.link(self.detect(pixel_values)))
        maps = self.maps(pixel_values)
        if self.config.given == "scores":
            scores = [s.sigmoid() for s in self.predictions(maps)[0]]
            rows, columns = scores[-1].shape[-2:]
            pooled = [F.adaptive_max_pool2d(s, (rows, columns)) for s in scores]
            return BaseModelOutput(last_hidden_state=torch.stack(pooled).amax(0))
        chosen = [maps[name] for name in self.config.layers]
        rows, columns = min(chosen, key=lambda m: m.shape[-1]).shape[-2:]
        same = [F.adaptive_avg_pool2d(m, (rows, columns)) for m in chosen]
        return BaseModelOutput(last_hidden_state=torch.cat(same, 1))


def _resized(hidden: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(hidden, like.shape[-2:], mode="bilinear", align_corners=False)


def _shown(pixel_values: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what frames (T, 3, H, W) show between borders of the mean colour,
    with which a processor pads."""
    whole = 0, 0, pixel_values.shape[-1], pixel_values.shape[-2]
    up_and_down, sideways = pixel_values[..., [0, -1], :], pixel_values[..., [0, -1]]
    edges = (*up_and_down.unbind(-2), *sideways.unbind(-1))
    if all((edge.abs() > _BORDER).any() for edge in edges):  # as nearly always: quick to see
        return whole
    inside = (pixel_values.abs() > _BORDER).any(0).any(0)
    if not inside.any():
        return whole
    rows, columns = (inside.any(axis).nonzero().flatten() for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
