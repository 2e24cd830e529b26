from __future__ import annotations

import torch

from visionllm_sdk.model.region import RegionEncoder, mask_boxes, mask_weights
from visionllm_sdk.model.tiling import canvas_of


def test_boxes_of_masks_are_shares_of_the_image_not_of_its_margins():
    """An image of 300 x 100 lies in the middle third of a square: its upper left quarter is marked."""
    mask = torch.zeros(1, 90, 90)
    mask[:, 30:45, :45] = 1
    frame = torch.tensor([canvas_of(300, 100, max_stretch=1.0).frame])
    whole = mask_boxes(mask)[0]
    assert torch.allclose(whole, torch.tensor([0.25, 75 / 180, 0.5, 1 / 6]))
    assert torch.allclose(mask_boxes(mask, frame)[0], torch.tensor([0.25, 0.25, 0.5, 0.5]), atol=1e-6)


def test_frames_matter_only_to_an_encoder_that_tells_the_place():
    torch.manual_seed(0)
    pixels, levels = torch.randn(1, 3, 32, 32), (torch.randn(1, 6, 4, 4),) * 3
    mask = torch.zeros(1, 32, 32)
    mask[:, 12:20, 8:24] = 1
    frame = torch.tensor([[0.0, 0.25, 1.0, 0.5]])
    for place in (False, True):
        encoder = RegionEncoder(
            level_widths=(6, 6, 6),
            stem_width=6,
            width=8,
            kernels=(4, 2),
            stem_widths=(4, 6),
            place=place,
        )
        without = encoder(pixels, mask, levels)
        filled = encoder(pixels, mask, levels, frames=torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
        assert torch.equal(without, filled)
        assert torch.equal(without, encoder(pixels, mask, levels, frames=frame)) != place


def test_half_precision_counts_every_pixel_of_a_large_mask():
    """200,704 pixels are more than float16 can count."""
    masks = torch.ones(1, 448, 448)
    masks[:, :5, :7] = 0
    found = mask_weights(masks.half(), (32, 32))
    assert torch.equal(found, mask_weights(masks, (32, 32)).half())


def test_a_large_region_is_told_in_half_precision():
    torch.manual_seed(0)
    encoder = RegionEncoder(
        level_widths=(6,) * 3, stem_width=6, width=8, kernels=(4, 2), stem_widths=(4, 6)
    ).half()
    pixels, levels = torch.zeros(1, 3, 320, 320).half(), (torch.randn(1, 6, 40, 40).half(),) * 3
    found = encoder(pixels, torch.ones(1, 320, 320), levels)
    assert (found - encoder.up_dim.bias).abs().max() > 0.01  # what is left where nothing is averaged
