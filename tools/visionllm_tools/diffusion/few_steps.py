"""Training a flow that will be sampled in few steps: which time steps, and what their errors count."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from visionllm_tools.diffusion.loss import Draws

_NEARLY_PURE: Final = 0.12
_PURE_SHARE: Final = 0.4


class MostlyNoise(Draws):
    """Time steps that favour much noise, where kinds, colours and places are decided.

    Some are nearly pure noise: sampling starts there, and only there does the denoiser have to believe
    its conditioning instead of averaging what shines through.

    Args:
        generator: see `Draws`.
        pure: the share of nearly pure noise; more for what is sampled in a single step.
    """

    def __init__(self, generator: torch.Generator | None = None, *, pure: float = _PURE_SHARE) -> None:
        super().__init__(generator)
        self._pure = pure

    def steps(self, count: int, limit: int) -> Tensor:
        """See `Draws`."""
        source = self._generator
        share = torch.sigmoid(0.6 + 1.1 * torch.randn(count, generator=source))
        most = 1 - _NEARLY_PURE * torch.rand(count, generator=source)
        share = torch.where(torch.rand(count, generator=source) < self._pure, most, share)
        return (share * limit).long().clamp(1, limit - 1)


def clean_error(steps: Tensor, places: Tensor | None = None) -> Tensor:
    """Weights that turn errors of flow matching into errors of the clean picture.

    The direction divides the picture's error by the share of noise: unweighted, the faintest noise would
    count a hundred times as much as the noise that sampling starts from.

    Args:
        steps: of 1000. (B,)
        places: how much each place of the latent counts; None: all alike. (B, 1, h, w)

    Returns:
        (B, 1, 1, 1) or (B, 1, h, w)
    """
    weights = (steps.float() / 1000).square()[:, None, None, None]
    return weights if places is None else weights * places
