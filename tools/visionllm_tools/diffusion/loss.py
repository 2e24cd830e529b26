"""Training loss of a diffusion decoder (paper section 3.4; the released training code's dropping).

Noise is added to the latents of the wanted picture at a random step; the denoiser, conditioned by the
super-link, predicts what was added. A second, small term pulls the conditioning towards the text encoder's
features of the caption, where there is a text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.tool import ToolLoss
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.schedules import FLOW, training_schedule

CAPTION_WEIGHT: Final = 0.1
Weigh = Callable[[Tensor], Tensor]
"""Time steps (B,) -> weights of the squared errors, (B, 1, 1, 1) or (B, 1, h, w) over the latent."""


class Draws:
    """The random numbers of a loss, in this order: autoencoder, noise, steps, dropping.

    Args:
        generator: source; None takes torch's global one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def normal(self, like: Tensor) -> Tensor:
        """Normal numbers of the shape, device and number format of `like`."""
        place = "cpu" if self._generator is None else self._generator.device
        drawn = torch.randn(like.shape, generator=self._generator, device=place)
        return drawn.to(like)

    def steps(self, count: int, limit: int) -> Tensor:
        """`count` time steps in 0..limit - 1, long. (count,)"""
        return torch.randint(0, limit, (count,), generator=self._generator)

    def uniform(self, count: int) -> Tensor:
        """`count` numbers in [0, 1). (count,)"""
        return torch.rand(count, generator=self._generator)


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffusionBatch:
    """What a loss is computed from.

    Attributes:
        states: super-link states. (B, G, C)
        images: wanted pictures, -1..1. (B, 3, H, W)
        sources: editing: pictures to start from, -1..1. (B, 3, H, W)
        caption_ids: token ids of the captions for the text encoder, padded. (B, Q)
        hints: what is added to the conditioning, see `Hints`. (B, Q, d)
    """

    states: Tensor
    images: Tensor
    sources: Tensor | None = None
    caption_ids: Tensor | None = None
    hints: Tensor | None = None


def diffusion_loss(
    decoder: DiffusionDecoder,
    batch: DiffusionBatch,
    *,
    drop_rate: float,
    draws: Draws | None = None,
    weigh: Weigh | None = None,
    looks: int = 1,
) -> ToolLoss:
    """Loss of a batch.

    Args:
        decoder: gradients flow into its mapper and denoiser.
        batch: pictures and super-links.
        drop_rate: `cfg_drop_rate`: a caption is dropped with twice this probability; in editing an image is
            dropped with twice this probability, half of the time together with its caption. 0 drops nothing.
        draws: random numbers.
        weigh: how much an error counts; None: all alike.
        looks: how often every picture is looked at, each time through other noise.

    Returns:
        Terms `noise` and, with caption ids and a text encoder, `caption`, which is weighted by 0.1.
    """
    condition = decoder.condition(batch.states)  # (B, Q, d)
    shown = condition if batch.hints is None else condition + batch.hints
    noise = denoising_loss(
        decoder,
        shown.repeat(looks, 1, 1),
        batch.images.repeat(looks, 1, 1, 1),
        sources=None if batch.sources is None else batch.sources.repeat(looks, 1, 1, 1),
        drop_rate=drop_rate,
        draws=draws,
        weigh=weigh,
    )
    terms = {"noise": noise}
    if batch.caption_ids is not None and decoder.sd_text_encoder is not None:
        features = decoder.caption_features(batch.caption_ids)
        terms["caption"] = CAPTION_WEIGHT * F.mse_loss(condition.float(), features.float())
    return ToolLoss(total=torch.stack(list(terms.values())).sum(), terms=terms)


def denoising_loss(
    decoder: DiffusionDecoder,
    condition: Tensor,
    images: Tensor,
    *,
    sources: Tensor | None = None,
    drop_rate: float,
    draws: Draws | None = None,
    weigh: Weigh | None = None,
) -> Tensor:
    """The term `noise` of :func:`diffusion_loss` for a conditioning from anywhere.

    Args:
        decoder: gradients flow into its denoiser.
        condition: (B, Q, d)
        images: as in :class:`DiffusionBatch`.
        sources: as in :class:`DiffusionBatch`.
        drop_rate: as in :func:`diffusion_loss`.
        draws: random numbers.
        weigh: how much each place counts; None: all alike.
    """
    draws = draws or Draws()
    posterior = decoder.encode(images)
    clean = (posterior.mean + posterior.std * draws.normal(posterior.mean)) * decoder.scaling
    noise = draws.normal(clean)
    noisy, steps, wanted = _noised(decoder, clean, noise, draws)
    context = None if sources is None else decoder.encode(sources).mode()
    shown, context = _dropped(decoder, condition, context, drop_rate, draws)
    seen = noisy if context is None else torch.cat([noisy, context], dim=1)
    prediction = decoder.denoise(seen, steps, shown)
    errors = (prediction.float() - wanted.float()).square()
    return (errors if weigh is None else errors * weigh(steps)).mean()


def _noised(
    decoder: DiffusionDecoder, clean: Tensor, noise: Tensor, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their time steps, and what the denoiser should say."""
    schedule = decoder.config.parts.scheduler
    count = int(schedule.get("num_train_timesteps", 1000))
    steps = draws.steps(len(clean), count).to(clean.device)
    target = _TARGETS[schedule.get("prediction_type", "epsilon")]
    noisy, wanted = target(schedule, clean, noise, steps)
    return noisy, steps, wanted


def _noise_target(
    schedule: Mapping[str, Any], clean: Tensor, noise: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    return training_schedule(schedule).add_noise(clean, noise, steps), noise


def _velocity_target(
    schedule: Mapping[str, Any], clean: Tensor, noise: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    library = training_schedule(schedule)
    return library.add_noise(clean, noise, steps), library.get_velocity(clean, noise, steps)


def _flow_target(
    schedule: Mapping[str, Any], clean: Tensor, noise: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """A straight line from picture to noise, and its direction (rectified flow, Liu et al. 2022)."""
    share = (steps.to(clean.dtype) / schedule.get("num_train_timesteps", 1000))[:, None, None, None]
    return torch.lerp(clean, noise, share), noise - clean


_TARGETS: Final[Mapping[str, Callable[..., tuple[Tensor, Tensor]]]] = {
    "epsilon": _noise_target,
    "v_prediction": _velocity_target,
    FLOW: _flow_target,
}


def _dropped(
    decoder: DiffusionDecoder, condition: Tensor, context: Tensor | None, rate: float, draws: Draws
) -> tuple[Tensor, Tensor | None]:
    """Conditioning and input image with some of them dropped, so that guidance has something to compare.

    One number p per picture decides: the caption goes if p < 2 r, the image if r <= p < 3 r.
    """
    if rate == 0:
        return condition, context
    chance = draws.uniform(len(condition)).to(condition.device)[:, None, None]  # (B, 1, 1)
    shown = torch.where(chance < 2 * rate, decoder.null_condition(), condition)
    if context is None:
        return shown, None
    gone = ((chance >= rate) & (chance < 3 * rate))[..., None]  # (B, 1, 1, 1)
    return shown, torch.where(gone, torch.zeros_like(context), context)
