"""What a caption leaves open, read off the wanted picture: fine-tuning then learns the look and not chance.

A caption rarely says where things are. The denoiser that was trained with the super-links decides it the same
way every time; a user's pictures decide otherwise, and at much noise the best answer to both is the mean of
all places: a blot. So for every picture it is found out once which change of the conditioning lets the
denoiser as it came draw it (an inversion of the conditioning, as textual inversion is one of a word: Gal et
al., 2023). In training the change is added: what is left to learn is what all pictures have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor

from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.few_steps import clean_error

_STEPS: Final = 40
_RATE: Final = 0.05
_PRIOR: Final = 1e-3
_LEAST_NOISE: Final = 600
"""Of 1000 time steps: below, places can be seen in the picture."""


class Hints:
    """Changes of the conditioning by picture, for a denoiser that follows a flow.

    Args:
        decoder: as it came; a copy is kept.
        steps: of the search, for every picture.
    """

    def __init__(self, decoder: DiffusionDecoder, *, steps: int = _STEPS) -> None:
        self._base: DiffusionDecoder = deepcopy(decoder).requires_grad_(False).eval()
        self._steps = steps
        self._known: dict[bytes, Tensor] = {}
        self._common: Tensor | None = None

    def study(self, states: Tensor, images: Tensor) -> None:
        """Learn from a sample of the pictures what their changes have in common: the look, to be learnt.

        Args:
            states: super-link states. (B, G, C)
            images: wanted pictures, -1..1. (B, 3, H, W)
        """
        self._common = None
        self._common = self(states, images).mean(0)

    def __call__(self, states: Tensor, images: Tensor) -> Tensor:
        """What to add to the conditioning, (B, Q, d). The search for a picture depends on it alone."""
        keys = [hashlib.sha256(image.float().cpu().numpy().tobytes()).digest() for image in images]
        new = list({key: place for place, key in enumerate(keys) if key not in self._known}.values())
        if new:
            seeds = [int.from_bytes(keys[place][:7], "big") for place in new]
            for place, change in zip(new, self._search(states[new], images[new], seeds), strict=True):
                self._known[keys[place]] = change
        found = torch.stack([self._known[key] for key in keys])
        return found if self._common is None else found - self._common

    @torch.enable_grad()
    def _search(self, states: Tensor, images: Tensor, seeds: Sequence[int]) -> Tensor:
        base = self._base
        with torch.no_grad():
            start = base.condition(states).float()
            clean = base.encode(images).mode().float() * base.scaling
        randoms = [torch.Generator().manual_seed(seed) for seed in seeds]
        condition = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([condition], lr=_RATE)
        for _ in range(self._steps):
            noise = torch.stack([torch.randn(clean.shape[1:], generator=one) for one in randoms]).to(clean)
            drawn = [torch.randint(_LEAST_NOISE, 1000, (), generator=one) for one in randoms]
            times = torch.stack(drawn).to(clean.device)
            noisy = torch.lerp(clean, noise, (times / 1000)[:, None, None, None].to(clean))
            said = base.denoise(noisy, times, condition).float()
            errors = (said - (noise - clean)).square() * clean_error(times)
            away = (condition - start).square().mean((1, 2))
            loss = (errors.mean((1, 2, 3)) + _PRIOR * away).sum()  # every picture by itself
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return (condition - start).detach()
