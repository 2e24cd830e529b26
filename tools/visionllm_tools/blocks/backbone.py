"""The library's image backbones as the decoders of this package use them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import AutoBackbone, PretrainedConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.precision import QuickConvolutions
from visionllm_tools.blocks.swin import make_lean


class LibraryBackbone(QuickConvolutions):
    """Holds the library's backbone as `model`. A Swin always computes in the format of its weights.

    Args:
        config: a backbone configuration with one output for every stride.
        strides: of the feature maps.
        reader: who uses it, for messages.

    Raises:
        ConfigError: the backbone has another number of outputs.
    """

    def __init__(self, config: PretrainedConfig, *, strides: Sequence[int], reader: str) -> None:
        super().__init__()
        self.model: nn.Module = AutoBackbone.from_config(config)
        self.channels: tuple[int, ...] = tuple(self.model.channels)
        if len(self.channels) != len(strides):
            listed = f"{', '.join(map(str, strides[:-1]))} and {strides[-1]}"
            wanted = [stride.bit_length() - 2 for stride in strides]
            raise ConfigError(
                f"the {reader}'s backbone must give feature maps at strides {listed}",
                value=f"{len(self.channels)} maps",
                limit=f"{len(strides)} maps",
                remedy=f"Set out_indices to {wanted} in backbone_config.",
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
        """Feature maps of (B, 3, H, W) pixels, fine to coarse, each (B, C_i, H_i, W_i)."""
        return self.feature_maps(self.model, pixels)
