"""The library's denoiser, told where each position lies."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

_AXES = 2


class CoordinateUNet(UNet2DConditionModel):
    """`UNet2DConditionModel` whose first convolution also reads the position, x and y in -1..1.

    A small network trained for a short time cannot find out by itself where "left" is. The configuration, the
    keys and the interface are those of the library's class; `in_channels` does not count the two coordinates,
    and `conv_in.weight` has two more input channels, the last ones.
    """

    def __init__(self, **numbers: Any) -> None:
        super().__init__(**numbers)
        first: Any = self.get_submodule("conv_in")
        self.conv_in: nn.Module = nn.Conv2d(
            first.in_channels + _AXES, first.out_channels, first.kernel_size, padding=first.padding
        )

    def forward(self, sample: Tensor, *inputs: Any, **named: Any) -> Any:
        """Denoise; as the library's class. `sample`: (B, in_channels, h, w)."""
        return super().forward(torch.cat([sample, _coordinates(sample)], dim=1), *inputs, **named)


def _coordinates(sample: Tensor) -> Tensor:
    """x and y of every position, (B, 2, h, w)."""
    height, width = sample.shape[-2:]
    x = torch.linspace(-1, 1, width, device=sample.device, dtype=sample.dtype)
    y = torch.linspace(-1, 1, height, device=sample.device, dtype=sample.dtype)
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return grid.expand(len(sample), -1, -1, -1)
