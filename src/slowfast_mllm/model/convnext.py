"""The ConvNeXt vision tower, with the parameter names of timm: published weights just load.

It returns the raw map of the last stage (no final norm, no head), as the published model uses it.
Source: Liu et al., "A ConvNet for the 2020s" (arXiv 2201.03545).
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from slowfast_mllm.model.configuration_slowfast import SlowFastVisionConfig
from slowfast_mllm.model.cpu_linear import Int8Linear


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of an (N, C, H, W) map."""

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextMlp(nn.Module):
    """Two linear layers over the last dimension, GELU between, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(hidden)))


class ConvNextBlock(GradientCheckpointingLayer):
    """Depthwise 7x7 convolution, norm, MLP, layer scale, residual; (N, C, H, W) in and out."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.mlp = ConvNextMlp(dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, hidden: Tensor) -> Tensor:
        change = self.conv_dw(hidden).permute(0, 2, 3, 1)  # channels last for norm and MLP
        change = self.mlp(self.norm(change)) * self.gamma
        return hidden + change.permute(0, 3, 1, 2)


class ConvNextStage(nn.Module):
    """An optional 2x2 downsampling and a row of blocks."""

    def __init__(self, in_dim: int, dim: int, depth: int, eps: float, downsample: bool) -> None:
        super().__init__()
        self.downsample = (
            nn.Sequential(ChannelLayerNorm(in_dim, eps=eps), nn.Conv2d(in_dim, dim, 2, stride=2))
            if downsample
            else nn.Identity()
        )
        self.blocks = nn.Sequential(*(ConvNextBlock(dim, eps) for _ in range(depth)))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.blocks(self.downsample(hidden))


def narrow_mlps(tower: nn.Module) -> None:
    """Compute the linear layers of a ConvNeXt, nearly all that it does, in int8; in place."""
    for module in tower.modules():
        if isinstance(module, ConvNextMlp):
            module.fc1 = cast(Any, Int8Linear(module.fc1))
            module.fc2 = cast(Any, Int8Linear(module.fc2))


class SlowFastConvNextModel(PreTrainedModel):
    """ConvNeXt trunk of any depths and dims."""

    config: SlowFastVisionConfig
    config_class = SlowFastVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvNextBlock"]
    # It has no attention, so every implementation that the language model may ask for fits.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: SlowFastVisionConfig) -> None:
        super().__init__(config)
        dims, eps = list(config.hidden_sizes), config.layer_norm_eps
        self.stem = nn.Sequential(
            nn.Conv2d(config.num_channels, dims[0], kernel_size=4, stride=4),
            ChannelLayerNorm(dims[0], eps=eps),
        )
        self.stages = nn.ModuleList(
            ConvNextStage(dims[max(i - 1, 0)], dim, depth, eps, downsample=i > 0)
            for i, (dim, depth) in enumerate(zip(dims, config.depths, strict=True))
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            # By fan-in: a fixed small deviation would all but close the blocks of a small tower.
            fan_in = module.weight[0].numel()
            init.trunc_normal_(module.weight, std=(3 * fan_in) ** -0.5)
        if isinstance(module, ConvNextBlock):
            init.constant_(module.gamma, self.config.layer_scale_init)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Encode frames.

        Args:
            pixel_values: (N, num_channels, H, W), normalised.

        Returns:
            `last_hidden_state` (N, C, H / patch_size, W / patch_size).
        """
        hidden = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            hidden = stage(hidden)
        return BaseModelOutput(last_hidden_state=hidden)
