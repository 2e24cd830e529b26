"""A fixed autoencoder that loses nothing: the Haar wavelet transform.

For small pictures a learned autoencoder is the slow part of training and the lossy part of the result. This
one has nothing to learn. It offers the interface of the library's `AutoencoderKL`, so that the library's
pipelines and the loss use either without knowing which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

_COLOURS = 3


class HaarVAE(ModelMixin, ConfigMixin):
    """Orthonormal Haar transform of RGB images in -1..1; every level halves the sides.

    Channels of a latent: the coarse image first, then the details from the coarsest level to the finest; each
    level holds horizontal, vertical and diagonal details of the three colours.

    Args:
        levels: number of halvings.
        gains: factor on each of the `1 + levels` groups of channels (coarse, coarsest details, ..., finest),
            so that all are of like strength; () for 1 each.
        scaling_factor: as in `AutoencoderKL`: the denoiser sees latents times this.

    Raises:
        ValueError: gains that do not fit the number of levels.
    """

    @register_to_config
    def __init__(self, levels: int = 2, gains: tuple[float, ...] = (), scaling_factor: float = 1.0) -> None:
        super().__init__()
        if levels < 1 or (gains and len(gains) != 1 + levels) or any(gain <= 0 for gain in gains):
            raise ValueError(f"a Haar transform of {levels} levels cannot have the gains {tuple(gains)}")
        channels = _COLOURS * 4**levels
        # What pipelines read of any autoencoder; the downscaling follows from the number of blocks.
        self.register_to_config(latent_channels=channels, block_out_channels=(channels,) * (levels + 1))
        # A stored buffer, not a constant: pipelines ask every part for its device and number format.
        self.register_buffer("gain", channel_gains(levels, gains))

    def encode(
        self, x: Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Latents of images (B, 3, H, W), sides divisible by the downscaling: a distribution without
        spread."""
        latent = analyse(x, self.config.levels) * self._gain(x)
        mean_and_spread = torch.cat([latent, torch.zeros_like(latent)], dim=1)
        posterior = DiagonalGaussianDistribution(mean_and_spread, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Images (B, 3, H, W) of latents: the exact inverse of :meth:`encode`. `generator` is not used."""
        image = synthesise(z / self._gain(z), self.config.levels)
        return DecoderOutput(sample=image) if return_dict else (image,)

    def _gain(self, like: Tensor) -> Tensor:
        return cast(Tensor, self.gain).to(like)[None, :, None, None]


def channel_gains(levels: int, gains: Sequence[float] = ()) -> Tensor:
    """The gain of every channel of a latent, (C,): one of `gains` for each group; () for 1 each."""
    sizes = [_COLOURS, *(3 * _COLOURS * 4**level for level in range(levels))]
    groups = zip(gains or (1.0,) * len(sizes), sizes, strict=True)
    return torch.tensor([gain for gain, size in groups for _ in range(size)], dtype=torch.float32)


def analyse(image: Tensor, levels: int) -> Tensor:
    """(B, 3, H, W) -> (B, C, h, w), channels as in :class:`HaarVAE`, with gains of 1."""
    coarse, details = image, []
    for _ in range(levels):
        coarse, detail = _split(coarse)
        details.append(detail)
    # Finer details are folded to the resolution of the coarse image.
    size = coarse.shape[-1]
    folded = [torch.nn.functional.pixel_unshuffle(d, d.shape[-1] // size) for d in reversed(details)]
    return torch.cat([coarse, *folded], dim=1)


def synthesise(latent: Tensor, levels: int) -> Tensor:
    """Inverse of :func:`analyse`."""
    image, start = latent[:, :_COLOURS], _COLOURS
    for level in range(levels):
        count = 3 * _COLOURS * 4**level
        detail = torch.nn.functional.pixel_shuffle(latent[:, start : start + count], 2**level)
        image, start = _join(image, detail), start + count
    return image


def _split(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) -> the coarse half-size image (B, C, H/2, W/2), and its details (B, 3 C, H/2, W/2)."""
    a, b = image[..., 0::2, 0::2], image[..., 0::2, 1::2]
    c, d = image[..., 1::2, 0::2], image[..., 1::2, 1::2]
    return (a + b + c + d) / 2, torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2


def _join(coarse: Tensor, details: Tensor) -> Tensor:
    """Inverse of `_split`."""
    s, (x, y, xy) = coarse, details.chunk(3, dim=1)
    corners = torch.stack([s + x + y + xy, s - x + y - xy, s + x - y - xy, s - x - y + xy], dim=2) / 2
    batch, channels, _, height, width = corners.shape
    return torch.nn.functional.pixel_shuffle(corners.reshape(batch, channels * 4, height, width), 2)
