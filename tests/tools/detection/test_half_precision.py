"""bfloat16, the number format on GPUs: the detector runs, and places keep all their digits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visionllm_tools.blocks.positions import label_embedding
from visionllm_tools.blocks.sampling import GridMaps
from visionllm_tools.detection.decoder import Detector


def test_a_swin_detector_runs_in_bfloat16(make_tiny: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    detector = make_tiny().bfloat16()
    width = detector.config.l_hidden_size
    states = torch.randn(1, 3, detector.config.num_embs, width).bfloat16()
    mask = torch.ones(1, 96, 128, dtype=torch.bool)
    mask[:, 80:] = False
    with torch.inference_mode():
        labels = detector.encode_labels(states)
        pixels = torch.randn(1, 3, 96, 128).bfloat16()
        output = detector(pixels, mask, labels, torch.ones(1, 3, dtype=torch.bool))
        masks = detector.masks(output, torch.tensor([[0, 1]]))
    assert output.layers[-1].queries.dtype == masks.dtype == torch.bfloat16
    assert output.layers[-1].boxes.dtype == torch.float32
    assert bool(torch.isfinite(output.layers[-1].boxes).all())


def test_places_on_a_large_map_are_exact() -> None:
    """Column 150 of 167 is not a number of bfloat16 after it was scaled to -1 to 1."""
    columns = torch.arange(167.0).view(1, 167, 1, 1).bfloat16()  # every cell holds its column: exact to 256
    source = GridMaps(columns, [(1, 167)])
    x = torch.tensor([150.5]).view(1, 1, 1, 1)
    found = source.sample(x, torch.full_like(x, 0.5), torch.ones_like(x).bfloat16())
    assert found.dtype == torch.bfloat16
    assert found.item() == 150.0


def test_labels_far_down_the_list_are_told_apart() -> None:
    mask = torch.ones(1, 200, dtype=torch.bool)
    exact: Tensor = label_embedding(mask, width=32, dtype=torch.float32)
    half = label_embedding(mask, width=32, dtype=torch.bfloat16)
    assert float((half.float() - exact).abs().max()) < 0.005
