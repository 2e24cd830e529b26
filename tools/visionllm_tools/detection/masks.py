"""Mask features and the masks of chosen queries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NormConv(nn.Conv2d):
    """Convolution without bias, GroupNorm (`norm`), optional activation."""

    def __init__(
        self, channels: int, out: int, *, kernel: int, activation: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(channels, out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(32, out)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H, W)."""
        x = self.norm(super().forward(x))
        return x if self.activation is None else self.activation(x)


def mask_logits(embeddings: Tensor, features: Tensor) -> Tensor:
    """Masks as dot products, (B, K, M) x (B, M, H, W) -> (B, K, H, W) logits."""
    return (embeddings @ features.flatten(2)).unflatten(2, features.shape[-2:])


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear (B, C, h, w) -> (B, C, H, W) of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def laid_out_like(x: Tensor, like: Tensor) -> Tensor:
    """The map (B, C, H, W) `x` in the number format and the memory layout of another; gradients flow on.

    Maps cut out of a sequence of tokens have the strides of no layout, and what reads them copies them first.
    """
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty_like(x, dtype=like.dtype, memory_format=layout).copy_(x)
