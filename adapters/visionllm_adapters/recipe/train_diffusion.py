"""Stage 4: small denoisers learn to draw, or with `--editing` to change, what stand-in tokens ask for."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.drawing_pictures import (
    EditPair,
    edit_pair,
    editing_batch,
    generation_batch,
    picture,
)
from visionllm_adapters.recipe.drawing_tokens import EditTokens, SceneTokens, layout_tensors, order_tensors
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.warm import load_aids, saved_module, shipped_part
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.scenes import held_out_seeds
from visionllm_sdk.scenes.checker import Asked, check
from visionllm_sdk.scenes.drawing_language import EditWords, random_asked
from visionllm_sdk.scenes.edit_checker import check_edit
from visionllm_sdk.scenes.edits import EDIT_KINDS
from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, DiffusionConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder, build_decoder
from visionllm_tools.diffusion.embedded import embedded_section
from visionllm_tools.diffusion.few_steps import MostlyNoise, clean_error
from visionllm_tools.diffusion.loss import denoising_loss
from visionllm_tools.diffusion.painting import Order, Plan, paint
from visionllm_tools.editing.keeping import keep_unchanged

LLM_WIDTH: Final = 256
_OUTER: Final = ("conv_in.", "grid_in.", "conv_out.")
_STRESS: Final = 4.0
_VISIBLE: Final = 0.04
_MARGIN: Final = 0.06
_DOWNSCALE: Final = 4
_MOSTLY_BELOW: Final = -2.0
_HEARD: Final = 0.15
"""Random changes of the tokens in training, relative to their spread: super-links never say them exactly."""
_PURE: Final = {False: 0.4, True: 0.8}
"""Share of nearly pure noise in training, without and with editing, whose sampling takes one step."""
_SHEET: Final = 64
_PER_ROW: Final = 16


class Average:
    """Exponential moving averages of weights; the decay grows with the number of steps.

    Args:
        pairs: live module and the copy that follows it.
        decay: the longest memory.
    """

    def __init__(self, pairs: Sequence[tuple[nn.Module, nn.Module]], decay: float = 0.9985) -> None:
        self._live: list[torch.Tensor] = [p for live, _ in pairs for p in live.parameters()]
        self._slow: list[torch.Tensor] = [p for _, slow in pairs for p in slow.parameters()]
        self._decay = decay

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move a little towards the live weights."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._slow, self._live, 1 - decay)


def decoder_for(editing: bool) -> DiffusionDecoder:
    """The embedded decoder with random weights; its mapper is trained later, with the language model."""
    section = embedded_section(LLM_WIDTH, editing=editing)
    defaults = EDITING_PARTS if editing else GENERATION_PARTS
    decoder = build_decoder(DiffusionConfig.from_dict(section, defaults=defaults))
    for part in ("weight", "bias"):
        nn.init.zeros_(decoder.sd_unet.get_parameter(f"conv_out.{part}"))
    # Most of a picture is what lies below.
    nn.init.constant_(decoder.sd_unet.get_parameter("conv_out.bias")[: _DOWNSCALE**2], _MOSTLY_BELOW)
    return decoder


def start_from(unet: nn.Module, checkpoint: Path) -> None:
    """Take over the inner layers of another drawing stage's denoiser: how to draw is known there.

    First layers, which see other channels, and the last one, which says something else, stay as they are.
    """
    live = unet.state_dict()
    known = saved_module(checkpoint, "ema_unet")
    inner = {k: v for k, v in known.items() if not k.startswith(_OUTER) and v.shape == live[k].shape}
    unet.load_state_dict({**live, **inner})


def start_warm(folder: Path, decoder: DiffusionDecoder, tokens: nn.Module, *, editing: bool) -> None:
    """Go on from a finished model: its denoiser, as far as it has the same shapes, and recalled tokens.

    What the last layer says more than it did starts at nothing.
    """
    unet = decoder.sd_unet
    prefix = ("ip2p" if editing else "sd") + ".sd_unet."
    live = unet.state_dict()
    known = shipped_part(folder, prefix)
    for part in ("conv_out.weight", "conv_out.bias"):
        more = torch.zeros_like(live[part][len(known[part]) :])
        known[part] = torch.cat([known[part], more])
    fitting = {key: value for key, value in known.items() if value.shape == live[key].shape}
    unet.load_state_dict({**live, **fitting})
    tokens.load_state_dict(load_aids()["edit_tokens" if editing else "scene_tokens"])


# ---- validation ----


class CaptionJudge:
    """Held-out captions, drawn and judged by the classical checker.

    Args:
        count: captions.
    """

    def __init__(self, count: int) -> None:
        rng = Random(11)
        self.asked: list[Asked] = [random_asked(rng) for _ in range(count)]

    @torch.no_grad()
    def __call__(self, decoder: DiffusionDecoder, tokens: nn.Module, sheet: Path) -> dict[str, float]:
        """Shares of captions with right shapes, colours, places, background, and all of it."""
        conditions = tokens(*layout_tensors([plan_layout(asked) for asked in self.asked]))
        plan = Plan(size=(64, 64), steps=decoder.config.parts.steps, guidance=decoder.config.cfg_scale)
        start = time.process_time()
        drawn = paint(decoder, [Order(plan=plan, condition=one, seed=i) for i, one in enumerate(conditions)])
        spent = time.process_time() - start
        verdicts = [check(image, asked) for image, asked in zip(drawn, self.asked, strict=True)]
        contact_sheet(drawn, [verdict.right for verdict in verdicts]).save(sheet)
        names = ("shapes", "colours", "places", "background", "right")
        shares = {name: float(np.mean([getattr(v, name) for v in verdicts])) for name in names}
        return {
            **shares,
            "extra": float(np.mean([v.extra > 0 for v in verdicts])),
            "paint": spent / len(drawn),
        }


class EditJudge:
    """Held-out edits, made and judged by the classical checker.

    Args:
        count: edits.
    """

    def __init__(self, count: int) -> None:
        self.pairs: list[EditPair] = []
        for index, seed in enumerate(held_out_seeds(4 * count)):
            pair = edit_pair(seed, kind=EDIT_KINDS[index % len(EDIT_KINDS)])
            if pair is not None and len(self.pairs) < count:
                self.pairs.append(pair)

    @torch.no_grad()
    def __call__(self, decoder: DiffusionDecoder, tokens: nn.Module, sheet: Path) -> dict[str, float]:
        """Shares of edits done, by kind, and PSNR against the exact picture."""
        parts = decoder.config.parts
        conditions = tokens(*order_tensors([pair.words for pair in self.pairs]))
        sources = [_image(picture(pair.before)) for pair in self.pairs]
        plan = Plan(
            size=(64, 64),
            steps=parts.steps,
            guidance=decoder.config.cfg_scale,
            image_guidance=parts.image_guidance,
        )
        orders = [
            Order(plan=plan, condition=one, seed=i, source=source)
            for i, (one, source) in enumerate(zip(conditions, sources, strict=True))
        ]
        raw = paint(decoder, orders)
        made = [
            keep_unchanged(source, source, one, threshold=parts.keep_threshold or 0.0)
            for source, one in zip(sources, raw, strict=True)
        ]
        verdicts = [check_edit(one, p.before, p.edit) for one, p in zip(made, self.pairs, strict=True)]
        shown = [image for pair in zip(sources, made, strict=True) for image in pair]
        contact_sheet(shown, [mark for v in verdicts for mark in (True, v.done)]).save(sheet)
        scores: dict[str, float] = {}
        for kind in EDIT_KINDS:
            done = [v for v, p in zip(verdicts, self.pairs, strict=True) if p.edit.kind == kind]
            if not done:
                continue
            scores[kind] = float(np.mean([v.done for v in done]))
            scores[f"{kind}_psnr"] = float(np.median([min(v.psnr, 60.0) for v in done]))
            scores[f"{kind}_inside"] = float(np.median([min(v.inside, 60.0) for v in done]))
        return scores


def contact_sheet(images: Sequence[Image.Image], marks: Sequence[bool]) -> Image.Image:
    """Pictures in rows; those with a false mark stand on red."""
    side = max(max(image.size) for image in images) + 4
    rows = -(-len(images) // _PER_ROW)
    sheet = Image.new("RGB", (_PER_ROW * side, rows * side), "gray")
    for index, (image, mark) in enumerate(zip(images, marks, strict=True)):
        place = (index % _PER_ROW * side, index // _PER_ROW * side)
        if not mark:
            sheet.paste("red", (*place, place[0] + side, place[1] + side))
        sheet.paste(image, (place[0] + 2, place[1] + 2))
    return sheet


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


# ---- training ----


@dataclass
class Batch:
    """What a step learns from.

    Attributes:
        condition: (B, Q, d) stand-in tokens.
        images: (B, 3, H, W) wanted pictures.
        sources: (B, 3, H, W) for editing the pictures to start from.
        places: (B, 1, H / 4, W / 4) how much each place counts: more where things are, or change.
    """

    condition: Tensor
    images: Tensor
    sources: Tensor | None
    places: Tensor


def batch_of(editing: bool, tokens: nn.Module, first: int, count: int) -> Batch:
    """Pictures from seeds `first`, ..., and what asks for them."""
    if editing:
        pairs, before, after = editing_batch(first, count)
        condition = _vague(tokens, [pair.words for pair in pairs])
        changed = ((after - before).abs().amax(1, keepdim=True) > _VISIBLE).float()
        places = functional.max_pool2d(changed, _DOWNSCALE)
        return Batch(condition, after, before, 1 + _STRESS * places)
    layouts, images = generation_batch(first, count)
    asked = layout_tensors(layouts)
    height, width = (side // _DOWNSCALE for side in images.shape[-2:])
    return Batch(tokens(*asked), images, None, 1 + _STRESS * inside(asked[2], asked[3], height, width))


def _vague(tokens: nn.Module, orders: Sequence[EditWords]) -> Tensor:
    """Tokens that are more or less sure of the place around it: super-links are, and every token names it."""
    words, boxes, placed = order_tensors(orders)
    sure = (2 * torch.rand(len(orders), 1, 1)).clamp(max=1)
    return torch.lerp(tokens(words, boxes, torch.zeros_like(placed)), tokens(words, boxes, placed), sure)


def inside(boxes: Tensor, valid: Tensor, height: int, width: int) -> Tensor:
    """1 where a planned thing may lie, 0 elsewhere: (B, N, 4) cxcywh shares, (B, N) -> (B, 1, h, w)."""
    y, x = ((torch.arange(side) + 0.5) / side for side in (height, width))
    cells = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)  # (h, w, 2)
    away = (cells - boxes[:, :, None, None, :2]).abs()  # (B, N, h, w, 2)
    near = (away < boxes[:, :, None, None, 2:] / 2 + _MARGIN).all(-1) & valid[:, :, None, None]
    return near.any(1, keepdim=True).float()


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    decoder = decoder_for(arguments.editing)
    tokens: nn.Module = EditTokens() if arguments.editing else SceneTokens()
    unet = decoder.sd_unet
    if arguments.start is not None:
        start_from(unet, arguments.start)
    if arguments.warm is not None:
        start_warm(arguments.warm, decoder, tokens, editing=arguments.editing)
    channels_last(unet)
    slow_decoder, slow_tokens = deepcopy(decoder), deepcopy(tokens)
    slow_unet = slow_decoder.sd_unet
    modules = {"unet": unet, "tokens": tokens, "ema_unet": slow_unet, "ema_tokens": slow_tokens}
    optimiser = torch.optim.AdamW(
        [*unet.parameters(), *tokens.parameters()],
        lr=arguments.lr,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    run = Run(arguments.out, modules, [optimiser], arguments.minutes, arguments.every, tail=0.4)
    if arguments.keep_tokens:
        tokens.load_state_dict(slow_tokens.state_dict())
        tokens.requires_grad_(False)
    average = Average([(unet, slow_unet), (tokens, slow_tokens)])
    judge = EditJudge(_SHEET) if arguments.editing else CaptionJudge(_SHEET)
    seen, draws = Averages(), MostlyNoise(pure=_PURE[arguments.editing])

    def report() -> dict[str, float]:
        torch.manual_seed(arguments.seed + run.step)  # a resumed run draws no noise twice
        marks = judge(slow_decoder, slow_tokens, arguments.out / "sheet.png")
        return {**seen.take(), **{name: round(mark, 4) for name, mark in marks.items()}}

    torch.manual_seed(arguments.seed + run.step)
    drop_rate = decoder.config.cfg_drop_rate if arguments.drop is None else arguments.drop
    for step in run.steps(report):
        start = time.monotonic()
        first = (step + arguments.seed * 1_000_000) * arguments.batch
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            batch = batch_of(arguments.editing, tokens, first, arguments.batch)
            ready = time.monotonic()
            loss = denoising_loss(
                decoder,
                batch.condition + _HEARD * torch.randn_like(batch.condition),
                batch.images,
                sources=batch.sources,
                drop_rate=drop_rate,
                draws=draws,
                weigh=partial(clean_error, places=batch.places),
            )
        run.update(loss, clip=1.0)
        average.follow(step)
        seen.add(loss=float(loss.detach()), draw=ready - start, work=time.monotonic() - ready)


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_diffusion --minutes 40 [--editing]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--editing", action="store_true", help="train the editing decoder")
    parser.add_argument("--start", type=Path, help="take the denoiser's inner layers from this checkpoint")
    parser.add_argument("--warm", type=Path, help="go on from this checkpoint folder and its recalled tokens")
    parser.add_argument(
        "--keep-tokens", action="store_true", help="super-links have been taught to say these tokens"
    )
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--drop", type=float, help="rate of dropped conditioning; default: the decoder's")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=180.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
