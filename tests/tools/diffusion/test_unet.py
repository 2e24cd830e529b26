"""The denoiser of small pictures lays them in layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tools.diffusion.small import small_config
from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, DiffusionConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder, build_decoder
from visionllm_tools.diffusion.unet import _partly_copied

MASK, ABOVE, BELOW = slice(0, 16), slice(16, 19), slice(19, 22)


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
        bias[BELOW][1] = -50.0  # no colour is copied
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
        bias[BELOW][1] = 50.0  # all of the colour is copied, from everywhere alike
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    picture = clean(made, torch.randn(1, 48, 8, 8), made.encode(image).mode())
    mean = image.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(picture, mean.expand_as(picture), atol=1e-4, rtol=0)


def test_the_copied_colour_is_that_of_the_places_looked_at() -> None:
    own, source = torch.zeros(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    said = torch.zeros(2, 3, 4, 4)
    said[0, 0, 1, 2] = said[1, 0, 3, 0] = 100.0
    said[:, 1] = -100.0
    said[:, 1, 0, 0] = 100.0
    colours = _partly_copied(own, said, source)
    torch.testing.assert_close(colours[0, :, 0, 0], source[0, :, 1, 2])
    torch.testing.assert_close(colours[1, :, 0, 0], source[1, :, 3, 0])
    colours[..., 0, 0] = 0
    torch.testing.assert_close(colours, own)


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
