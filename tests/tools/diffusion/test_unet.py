"""The denoiser of small pictures lays them in layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tools.diffusion.small import small_config
from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, DiffusionConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder, build_decoder
from visionllm_tools.diffusion.unet import _edited

MASK, ABOVE, BELOW = slice(0, 16), slice(16, 19), slice(19, 22)
COPIED, EXCHANGED = 20, 22
"""Editing: how much of the covering colour is copied, and how much is exchanged instead of covered."""


def decoder(name: str = "sd", *, layered: bool = True) -> DiffusionDecoder:
    """A small decoder whose last convolution says one thing everywhere."""
    section: dict[str, Any] = small_config(name)[f"{name}_config"]
    if not layered:
        section["visionllm_sdk"]["unet"]["layers"] = None
    defaults = EDITING_PARTS if name == "ip2p" else GENERATION_PARTS
    made = build_decoder(DiffusionConfig.from_dict(section, defaults=defaults)).eval()
    nn.init.zeros_(made.sd_unet.get_parameter("conv_out.weight"))
    nn.init.zeros_(made.sd_unet.get_parameter("conv_out.bias"))
    return made


def clean(made: DiffusionDecoder, noisy: Tensor, source: Tensor | None = None) -> Tensor:
    """The picture (B, 3, H, W) that the denoiser believes in, from its direction at pure noise."""
    seen = noisy if source is None else torch.cat([noisy, source], dim=1)
    condition = torch.zeros(len(noisy), 4, 32)
    with torch.no_grad():
        direction = made.denoise(seen, torch.full((len(noisy),), 1000), condition)
    return made.decode(noisy - direction)


def test_a_mask_of_full_resolution_divides_what_lies_above_from_what_lies_below() -> None:
    made = decoder()
    bias = made.sd_unet.get_parameter("conv_out.bias")
    with torch.no_grad():
        bias[MASK] = -50.0
        bias[5] = 50.0  # second pixel of the second row of every 4 x 4 cell
        bias[ABOVE] = torch.tensor([1.0, -1.0, 0.5])
        bias[BELOW] = torch.tensor([-0.5, 0.25, 1.0])
    picture = clean(made, torch.randn(1, 48, 8, 8))
    assert picture.shape == (1, 3, 32, 32)
    on_top = torch.zeros(32, 32, dtype=torch.bool)
    on_top[1::4, 1::4] = True
    torch.testing.assert_close(
        picture[0, :, on_top], bias[ABOVE, None].detach().expand(3, 64), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        picture[0, :, ~on_top], bias[BELOW, None].detach().expand(3, 960), atol=1e-4, rtol=0
    )


def test_editing_lays_colour_over_the_input_and_leaves_the_rest_exact() -> None:
    made = decoder("ip2p")
    bias = made.sd_unet.get_parameter("conv_out.bias")
    with torch.no_grad():
        bias[MASK] = -50.0
        bias[0] = 50.0
        bias[ABOVE] = 1.0
        bias[COPIED] = bias[EXCHANGED] = -50.0
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    source = made.encode(image).mode()
    picture = clean(made, torch.randn(1, 48, 8, 8), source)
    covered = torch.zeros(32, 32, dtype=torch.bool)
    covered[::4, ::4] = True
    torch.testing.assert_close(picture[0, :, ~covered], image[0, :, ~covered], atol=1e-4, rtol=0)
    torch.testing.assert_close(picture[0, :, covered], torch.ones(3, 64), atol=1e-4, rtol=0)


def test_editing_covers_with_a_colour_copied_from_the_input() -> None:
    made = decoder("ip2p")
    bias = made.sd_unet.get_parameter("conv_out.bias")
    with torch.no_grad():
        bias[MASK] = 50.0
        bias[ABOVE] = 1.0
        bias[COPIED], bias[EXCHANGED] = 50.0, -50.0  # from everywhere alike
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    picture = clean(made, torch.randn(1, 48, 8, 8), made.encode(image).mode())
    mean = image.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(picture, mean.expand_as(picture), atol=1e-4, rtol=0)


def test_exchanging_a_colour_leaves_what_it_is_mixed_with() -> None:
    share = torch.rand(1, 1, 16, 16)
    share[..., :4, :4] = 1.0  # the thing alone
    share[..., 8:, 8:] = 0.0  # what is behind it alone
    behind, old, new = (torch.rand(1, 3, 1, 1) for _ in range(3))
    said = torch.zeros(1, 4, 4, 4)
    said[:, 2, 0, 0] = 100.0  # look at the thing
    said[:, 1], said[:, 3] = -50.0, 50.0  # a colour of its own instead of that one
    found = _edited(torch.lerp(behind, old, share), share, new.expand(1, 3, 4, 4), said)
    torch.testing.assert_close(found, torch.lerp(behind, new, share))


def test_removing_exchanges_a_colour_for_one_that_is_copied() -> None:
    share = torch.rand(1, 1, 16, 16)
    share[..., :4, :4], share[..., 8:, 8:] = 1.0, 0.0
    behind, old = torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1)
    said = torch.full((1, 4, 4, 4), 50.0)
    said[:, 0], said[:, 2] = 0.0, 0.0
    said[:, 0, 3, 3] = said[:, 2, 0, 0] = 100.0
    found = _edited(torch.lerp(behind, old, share), share, torch.zeros(1, 3, 4, 4), said)
    torch.testing.assert_close(found, behind.expand_as(found))


def test_the_conditioning_says_colours_directly() -> None:
    made = decoder("ip2p")
    with torch.no_grad():
        bias = made.sd_unet.get_parameter("conv_out.bias")
        bias[MASK] = 50.0
        bias[COPIED] = bias[EXCHANGED] = -50.0
        made.sd_unet.get_parameter("colour_in.weight")[:, 0] = torch.tensor([0.5, -0.5, 0.25])
        source = made.encode(torch.rand(1, 3, 32, 32)).mode()
        condition = torch.zeros(1, 4, 32)
        condition[:, :2, 0] = 2.0  # one on the mean
        noisy = torch.randn(1, 48, 8, 8)
        seen, steps = torch.cat([noisy, source], dim=1), torch.full((1,), 1000)
        picture = made.decode(noisy - made.denoise(seen, steps, condition))
    wanted = torch.tensor([0.5, -0.5, 0.25])[None, :, None, None].expand_as(picture)
    torch.testing.assert_close(picture, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["sd", "ip2p"])
def test_without_layers_the_latent_itself_is_said(name: str) -> None:
    made = decoder(name, layered=False)
    with torch.no_grad():
        made.sd_unet.get_parameter("conv_out.bias")[:3] = 0.5
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    source = made.encode(image).mode() if name == "ip2p" else None
    wanted = torch.zeros(1, 48, 8, 8) if source is None else source.clone()
    wanted[:, :3] += 0.5
    picture = clean(made, torch.randn(1, 48, 8, 8), source)
    torch.testing.assert_close(picture, made.decode(wanted), atol=1e-4, rtol=0)
