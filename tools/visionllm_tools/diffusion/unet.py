"""The library's denoiser for small pictures: it reads its conditioning as a map, and predicts the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from visionllm_tools.diffusion.haar import analyse, channel_gains, synthesise

_AXES: Final = 2
_COLOURS: Final = 3
_BACKGROUND: Final = 2
"""Colours along a side of the background; what is between them is blended."""
_COPIES: Final = 4
"""Numbers a place about colours of the input image, see `_edited`."""
_OWN: Final = 2.5
"""How far a denoiser that has learnt nothing prefers colours of its own to those of the input image."""
_LEAST_NOISE: Final = 0.05
"""Below this share of noise the direction is computed as if there were this much: it divides by the share."""


class GridUNet(UNet2DConditionModel):
    """`UNet2DConditionModel` for flow matching that is told where things belong.

    Four differences make it learn in minutes what takes the plain network very long. Configuration,
    interface and most keys are those of the library's class.

    - The first convolution also reads the position, x and y in -1..1, and the conditioning tokens laid out as
      a square map over the picture, row by row. `in_channels` counts neither; in `conv_in.weight` they come
      last.
    - Inside, it predicts the clean latent x0 and turns it into the direction (x - x0) / s of flow matching,
      where s is the share of noise: a picture has few degrees of freedom, noise has all of them (Li and He,
      "Back to Basics: Let Denoising Generative Models Denoise", 2025).
    - With twice as many input as output channels (editing) it predicts the change of the input image: nothing
      at all is the best first guess.
    - With `layers` the picture has two layers: a smooth colour covers what lies below by a mask of full
      resolution. Below is an even background, or in editing the input image. A sharp edge is then one number
      a pixel, an even place costs nothing, and an untouched place is exact.

    Three more belong to editing with layers, where most is to be seen in the input image or said in words,
    and normalised features do not tell absolute colours well:

    - The covering colour may be copied from the input image: what is under a removed thing is around it.
    - The mask may exchange one colour of the input image for another instead of covering it. At a soft edge,
      where a thing mixes with what is behind it, only the thing's share then changes.
    - The conditioning reaches the covering colour directly: a word for a colour says it exactly.

    Args:
        layers: `levels` and `gains` of the `HaarVAE` whose latents these are; None for no layers.
        numbers: as for the library's class; `cross_attention_dim` one number.
    """

    def __init__(self, *, layers: Mapping[str, Any] | None = None, **numbers: Any) -> None:
        super().__init__(**numbers)
        self.register_to_config(layers=None if layers is None else dict(layers))
        first: Any = self.get_submodule("conv_in")
        width = first.out_channels
        self.grid_in = nn.Conv2d(self.config.cross_attention_dim, width, 3, padding=1)
        self.conv_in: nn.Module = nn.Conv2d(
            first.in_channels + _AXES + width, width, first.kernel_size, padding=first.padding
        )
        self._edits = self.config.in_channels == 2 * self.config.out_channels
        if layers is not None:
            said = 4 ** layers["levels"] + _COLOURS + (_COPIES if self._edits else _COLOURS)
            self.conv_out: nn.Module = nn.Conv2d(width, said, 3, padding=1)
            if self._edits:
                self.colour_in = nn.Linear(self.config.cross_attention_dim, _COLOURS, bias=False)
                nn.init.zeros_(self.colour_in.weight)

    def forward(
        self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *inputs: Any, **named: Any
    ) -> Any:
        """The direction from the clean latent to the noise; as the library's class.

        Args:
            sample: noisy latent, for editing with the input image's latent behind. (B, in_channels, h, w)
            timestep: 0..1000, a number or (B,).
            encoder_hidden_states: conditioning; Q is a square number. (B, Q, d)
            *inputs: as for the library's class.
            **named: as for the library's class.
        """
        seen = torch.cat([sample, _coordinates(sample), self._grid(encoder_hidden_states, sample)], dim=1)
        outcome = super().forward(seen, timestep, encoder_hidden_states, *inputs, **named)
        output = outcome.sample if hasattr(outcome, "sample") else outcome[0]
        count = self.config.out_channels
        noisy, source = sample[:, :count], sample[:, count:]
        clean = self._clean(output, source, encoder_hidden_states)
        share = (
            torch.as_tensor(timestep, device=sample.device, dtype=sample.dtype).reshape(-1, 1, 1, 1) / 1000
        )
        direction = (noisy - clean) / share.clamp_min(_LEAST_NOISE)
        if not hasattr(outcome, "sample"):
            return (direction,)
        outcome.sample = direction
        return outcome

    def _clean(self, output: Tensor, source: Tensor, condition: Tensor) -> Tensor:
        """The clean latent of the last convolution's output.

        Args:
            output: (B, said, h, w)
            source: the input image's latent; no channels without one. (B, c or 0, h, w)
            condition: (B, Q, d)

        Returns:
            (B, c, h, w)
        """
        layers = self.config.layers
        if layers is None:
            return output + source if self._edits else output
        levels = layers["levels"]
        gain = channel_gains(levels, layers["gains"]).to(output.device)[None, :, None, None]
        cover, above, rest = output.float().tensor_split((4**levels, 4**levels + _COLOURS), dim=1)
        mask = functional.pixel_shuffle(cover, 2**levels).sigmoid()  # (B, 1, H, W)
        if self._edits:
            above = above + self.colour_in(condition).float().mean(dim=1)[..., None, None]
            picture = _edited(synthesise(source.float() / gain, levels), mask, above, rest)
        else:
            under = _smooth(functional.adaptive_avg_pool2d(rest, _BACKGROUND), mask)
            picture = torch.lerp(under, _smooth(above, mask), mask)
        return analyse(picture, levels) * gain

    def _grid(self, condition: Tensor, sample: Tensor) -> Tensor:
        """The conditioning as a map of the latent's size, (B, width, h, w)."""
        batch, tokens, width = condition.shape
        side = math.isqrt(tokens)
        grid = condition.transpose(1, 2).reshape(batch, width, side, side)
        read = self.grid_in(grid.to(self.grid_in.weight.dtype))
        return functional.interpolate(read, size=sample.shape[-2:], mode="bilinear", align_corners=False).to(
            sample.dtype
        )


def _smooth(colours: Tensor, like: Tensor) -> Tensor:
    """Few colours (B, 3, h, w), blended to the height and width of `like`."""
    return functional.interpolate(colours, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _edited(under: Tensor, mask: Tensor, above: Tensor, said: Tensor) -> Tensor:
    """The input image with new colours.

    Args:
        under: the input image. (B, 3, H, W)
        mask: how much of each pixel changes. (B, 1, H, W)
        above: the denoiser's own new colours. (B, 3, h, w)
        said: twice two numbers a place: where in the input image to look for a colour, one for the whole
            picture, and how much it counts here. The first is the new colour, the second the one that is
            exchanged; where that does not count, all of what is there is covered. (B, 4, h, w)

    Returns:
        (B, 3, H, W)
    """
    coarse = functional.interpolate(under, size=above.shape[-2:], mode="area")
    new = torch.lerp(above, _found(coarse, said[:, :1]), _share(said[:, 1:2]))
    old = torch.lerp(under, _found(coarse, said[:, 2:3]), _smooth(_share(said[:, 3:]), mask))
    return under + mask * (_smooth(new, mask) - old)


def _found(image: Tensor, looks: Tensor) -> Tensor:
    """The colour at the places looked at: (B, 3, h, w), (B, 1, h, w) -> (B, 3, 1, 1)."""
    weights = looks.flatten(2).softmax(dim=-1).reshape_as(looks)
    return (image * weights).sum(dim=(2, 3), keepdim=True)


def _share(said: Tensor) -> Tensor:
    return (said - _OWN).sigmoid()


def _coordinates(sample: Tensor) -> Tensor:
    """x and y of every position, (B, 2, h, w)."""
    height, width = sample.shape[-2:]
    x = torch.linspace(-1, 1, width, device=sample.device, dtype=sample.dtype)
    y = torch.linspace(-1, 1, height, device=sample.device, dtype=sample.dtype)
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return grid.expand(len(sample), -1, -1, -1)
