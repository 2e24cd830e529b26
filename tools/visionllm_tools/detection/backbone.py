"""The image backbone: any of the library's backbones, nested as in the released checkpoints."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AutoBackbone, PretrainedConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.precision import QuickConvolutions
from visionllm_tools.blocks.swin import make_lean


class ConvEncoder(QuickConvolutions):
    """Holds the library's backbone as `model`; `visionllm_tools.detection.keys` has its released names.

    A Swin always computes in the format of its weights.

    Args:
        config: a backbone configuration with four outputs at strides 4, 8, 16 and 32.

    Raises:
        ConfigError: the backbone has another number of outputs.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.model: nn.Module = AutoBackbone.from_config(config)
        self.channels: tuple[int, ...] = tuple(self.model.channels)
        if len(self.channels) != 4:
            raise ConfigError(
                "the detector's backbone must give feature maps at strides 4, 8, 16 and 32",
                value=f"{len(self.channels)} maps",
                limit="4 maps",
                remedy="Set out_indices to [1, 2, 3, 4] in backbone_config.",
            )
        if isinstance(self.model, SwinBackbone):
            self.model.swin.layernorm = nn.Identity()  # type: ignore[assignment]  # the backbone never uses its output
            make_lean(self.model)

    @property
    def is_swin(self) -> bool:
        """Whether the backbone is a Swin, whose released names differ."""
        return isinstance(self.model, SwinBackbone)

    def hurry(self) -> None:
        """See `QuickConvolutions.hurry`."""
        if not self.is_swin:
            super().hurry()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of (B, 3, H, W) pixels at strides 4, 8, 16 and 32, each (B, C_i, H_i, W_i)."""
        with self.precision(pixels) as shaped:
            found = self.model(shaped).feature_maps
        return [one.to(pixels.dtype) for one in found]


class Backbone(nn.Module):
    """Nesting of the released key layout: `backbone.conv_encoder.model`."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.conv_encoder = ConvEncoder(config)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `ConvEncoder.forward`."""
        return self.conv_encoder(pixels)
