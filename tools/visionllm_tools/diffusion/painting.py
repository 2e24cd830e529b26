"""Making pictures: batches of orders through the library's pipelines.

Orders with the same plan run together; every picture has a generator of its own, so that it depends on its
seed and not on its neighbours. Pipelines and schedulers keep state while they run: each run builds its own,
around the decoder's parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from visionllm_sdk.errors import GenerationCancelled
from visionllm_sdk.model.decoding import CancelToken
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.library import diffusers_class
from visionllm_tools.diffusion.options import Progress, Watch
from visionllm_tools.diffusion.schedules import build_scheduler, clean_estimate
from visionllm_tools.diffusion.sizes import Size

_PIXELS_AT_ONCE: Final = 4 * 512 * 512
"""Pixels of the pictures in one batch, at the downscaling of the released model; bounds memory."""
_RELEASED_DOWNSCALE: Final = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What pictures must share to be made in one batch.

    Attributes:
        size: width and height of the work.
        steps: denoising steps.
        guidance: towards the words.
        image_guidance: towards the input image; None: there is none.
        sampler: name; None for the checkpoint's own.
    """

    size: Size
    steps: int
    guidance: float
    image_guidance: float | None = None
    sampler: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """One picture to make.

    Attributes:
        plan: how.
        condition: conditioning. (Q, d)
        negative: conditioning to stay away from; None: that of "anything". (Q, d)
        seed: of the noise.
        source: editing: the image to start from, RGB of the plan's size.
        watch: is called after every step.
        cancel: stops the work.
    """

    plan: Plan
    condition: Tensor
    seed: int
    negative: Tensor | None = None
    source: Image.Image | None = None
    watch: Watch | None = None
    cancel: CancelToken | None = None


def paint(decoder: DiffusionDecoder, orders: Sequence[Order]) -> list[Image.Image]:
    """Make pictures; picture i belongs to order i and has its plan's size, RGB.

    A cancelled order stops its batch once nobody else waits for a picture of it.

    Raises:
        GenerationCancelled: all orders of a batch were cancelled.
        InputError: an unknown sampler.
        MissingExtraError: the library is not installed.
    """
    pictures: dict[int, Image.Image] = {}
    for plan in dict.fromkeys(order.plan for order in orders):
        places = [place for place, order in enumerate(orders) if order.plan == plan]
        step = _at_once(decoder, plan.size)
        for start in range(0, len(places), step):
            chunk = places[start : start + step]
            made = run_pipeline(decoder, [orders[place] for place in chunk])
            pictures |= dict(zip(chunk, made, strict=True))
    return [pictures[place] for place in range(len(orders))]


def run_pipeline(
    decoder: DiffusionDecoder, orders: Sequence[Order], *, noise: Tensor | None = None, finish: bool = True
) -> Any:
    """One run of the library's pipeline for orders with one plan.

    Args:
        decoder: conditioning apart, everything that a pipeline needs.
        orders: with the same plan, and all or none with a source.
        noise: initial latents of unit variance instead of the seeds'. (B, c, h, w)
        finish: decode the latents.

    Returns:
        RGB pictures, or with `finish=False` the final latents (B, c, h, w) as the denoiser sees them.
    """
    plan = orders[0].plan
    pipeline = _pipeline(decoder, plan)
    pipeline.set_progress_bar_config(disable=True)
    outcome = pipeline(
        prompt_embeds=torch.stack([order.condition for order in orders]),
        negative_prompt_embeds=_negatives(decoder, orders),
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance,
        generator=[torch.Generator("cpu").manual_seed(order.seed) for order in orders],
        latents=noise,
        output_type="pil" if finish else "latent",
        callback_on_step_end=_Watcher(decoder, orders),
        **_INPUTS[plan.image_guidance is None](plan, orders),
    )
    return outcome.images


def _at_once(decoder: DiffusionDecoder, size: Size) -> int:
    positions = size[0] * size[1] / decoder.downscale**2
    return max(1, int(_PIXELS_AT_ONCE / _RELEASED_DOWNSCALE**2 / positions))


def _pipeline(decoder: DiffusionDecoder, plan: Plan) -> Any:
    name = "StableDiffusionPipeline"
    if plan.image_guidance is not None:
        name = "StableDiffusionInstructPix2PixPipeline"
    kind = diffusers_class(name)
    return kind(
        vae=decoder.sd_vae,
        text_encoder=None,
        tokenizer=None,
        unet=decoder.sd_unet,
        scheduler=build_scheduler(decoder.config.parts.scheduler, plan.sampler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _negatives(decoder: DiffusionDecoder, orders: Sequence[Order]) -> Tensor:
    anything = decoder.null_condition()[0]
    return torch.stack([anything if order.negative is None else order.negative for order in orders])


def _generation_inputs(plan: Plan, orders: Sequence[Order]) -> dict[str, Any]:
    return {"width": plan.size[0], "height": plan.size[1]}


def _editing_inputs(plan: Plan, orders: Sequence[Order]) -> dict[str, Any]:
    return {
        "image": [order.source for order in orders],
        "image_guidance_scale": plan.image_guidance,
    }


_INPUTS: Final[Mapping[bool, Callable[[Plan, Sequence[Order]], dict[str, Any]]]] = {
    True: _generation_inputs,
    False: _editing_inputs,
}


class _Watcher:
    """Told by the pipeline after every step; tells whoever watches, and stops when nobody waits any more."""

    def __init__(self, decoder: DiffusionDecoder, orders: Sequence[Order]) -> None:
        self._decoder = decoder
        self._orders = orders

    def __call__(self, pipeline: Any, step: int, time: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if any(order.watch is not None for order in self._orders):
            latents = clean_estimate(pipeline.scheduler, tensors["latents"])
            for place, order in enumerate(self._orders):
                if order.watch is not None:
                    one = latents[place : place + 1]
                    order.watch(
                        Progress(
                            step=step + 1,
                            steps=pipeline.num_timesteps,
                            draw=partial(preview, self._decoder, one),
                        )
                    )
        if all(order.cancel is not None and order.cancel.cancelled for order in self._orders):
            raise GenerationCancelled(
                "the picture was cancelled",
                value=f"after step {step + 1} of {pipeline.num_timesteps}",
                remedy="Ask again to have it made.",
            )
        return {}


@torch.no_grad()
def preview(decoder: DiffusionDecoder, latents: Tensor) -> Image.Image:
    """The RGB picture of one latent (1, c, h, w)."""
    pixels = decoder.decode(latents)[0]
    levels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
