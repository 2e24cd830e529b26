"""Maps in the layout of those that they meet."""

from __future__ import annotations

import pytest
import torch

from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.masks import laid_out_like


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_and_format_of_the_other(batch: int, layout: torch.memory_format) -> None:
    tokens = torch.randn(batch, 4 * 5, 6, requires_grad=True)
    level = tokens.transpose(1, 2).unflatten(2, (4, 5))
    like = torch.empty(batch, 2, 8, 10, dtype=torch.bfloat16, memory_format=layout)
    found = laid_out_like(level, like)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=layout)
    torch.testing.assert_close(found.float(), level, atol=0.02, rtol=0.02)
    found.sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad == 1).all()


def test_mask_features_of_a_batch_are_those_of_its_images(tiny: Detector) -> None:
    torch.manual_seed(0)
    config, channels = tiny.config, tiny.model.lateral_convs[0].in_channels
    finest, tokens = torch.randn(3, channels, 16, 24), torch.randn(3, 8 * 12, config.d_model)
    encoded = tokens.transpose(1, 2).unflatten(2, (8, 12))
    with torch.no_grad():
        together = tiny.model.describe_masks(finest, encoded)
        alone = [tiny.model.describe_masks(finest[i : i + 1], encoded[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
