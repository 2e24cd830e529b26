"""The token pyramid of a batch equals those of its images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionllm_tools.blocks.pyramid import lay_out, level_projections


def embedding(x: Tensor, mask: Tensor) -> Tensor:
    """Positions that depend on the padding."""
    shares = mask.float().cumsum(-1) / mask.float().sum(-1, keepdim=True).clamp(min=1)
    return shares[:, None].expand(-1, x.shape[1], -1, -1)


@pytest.mark.parametrize("widths", [(64, 64), (50, 50), (64, 40)])
def test_a_batch_equals_its_images(widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    projections = torch.nn.ModuleList(level_projections((8, 8, 8), width=32, levels=4)).eval()
    level_embed = torch.randn(4, 32)
    features = [torch.randn(2, 8, side, side) for side in (16, 8, 4)]
    mask = torch.arange(64)[None, None].expand(2, 64, -1) < torch.tensor(widths)[:, None, None]

    def lay(rows: slice) -> tuple[Tensor, ...]:
        pyramid, positions = lay_out(
            [one[rows] for one in features],
            mask[rows],
            projections=projections,
            position_embedding=embedding,
            level_embed=level_embed,
        )
        padding = pyramid.padding
        if padding is None:
            padding = torch.zeros(pyramid.tokens.shape[:2], dtype=torch.bool)
        count = len(pyramid.tokens)
        return pyramid.tokens, padding, positions.expand(count, -1, -1), pyramid.ratios.expand(count, -1, -1)

    with torch.no_grad():
        together = lay(slice(None))
        alone = [lay(slice(i, i + 1)) for i in range(2)]
    for found, *single in zip(together, *alone, strict=True):
        torch.testing.assert_close(found, torch.cat(single), atol=1e-5, rtol=1e-5)
    _, positions = lay_out(
        features, mask, projections=projections, position_embedding=embedding, level_embed=level_embed
    )
    assert len(positions) == len(set(widths))  # images of one size share them
