"""The image backbone of the pose estimator: any of the library's backbones with three outputs."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AutoBackbone, PretrainedConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from visionllm_sdk.errors import ConfigError


class PoseBackbone(nn.Module):
    """Holds the library's backbone as `model`.

    Args:
        config: a backbone configuration with three outputs at strides 8, 16 and 32.

    Raises:
        ConfigError: the backbone has another number of outputs.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.model: nn.Module = AutoBackbone.from_config(config)
        self.channels: tuple[int, ...] = tuple(self.model.channels)
        if len(self.channels) != 3:
            raise ConfigError(
                "the pose estimator's backbone must give feature maps at strides 8, 16 and 32",
                value=f"{len(self.channels)} maps",
                limit="3 maps",
                remedy="Set out_indices to [2, 3, 4] in backbone_config.",
            )
        self.is_swin = isinstance(self.model, SwinBackbone)
        if self.is_swin:
            self.model.swin.layernorm = nn.Identity()  # its output is never used

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of (B, 3, H, W) pixels at strides 8, 16 and 32, each (B, C_i, H_i, W_i)."""
        return list(self.model(pixels).feature_maps)
