"""The image backbone of the detector, nested as in the released checkpoints."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PretrainedConfig

from visionllm_tools.blocks.backbone import LibraryBackbone


class Backbone(nn.Module):
    """Nesting of the released key layout, `backbone.conv_encoder.model`; see `detection.keys`.

    Args:
        config: a backbone configuration with four outputs at strides 4, 8, 16 and 32.

    Raises:
        ConfigError: the backbone has another number of outputs.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.conv_encoder = LibraryBackbone(config, strides=(4, 8, 16, 32), reader="detector")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `LibraryBackbone.forward`."""
        maps: list[Tensor] = self.conv_encoder(pixels)
        return maps
