"""Packed attention equals torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visionllm_tools.blocks.attention import PackedAttention


@pytest.fixture
def pair() -> tuple[PackedAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    own, reference = PackedAttention(width=16, heads=4), nn.MultiheadAttention(16, 4, batch_first=True)
    nn.init.normal_(own.in_proj_bias)
    reference.load_state_dict(own.state_dict())  # the same keys
    return own, reference


@pytest.mark.parametrize("sharing", ["queries and keys", "keys and values", "nothing"])
def test_equal_to_torch(pair: tuple[PackedAttention, nn.MultiheadAttention], sharing: str) -> None:
    own, reference = pair
    queries, keys, values = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    if sharing == "queries and keys":
        queries = keys
    if sharing == "keys and values":
        values = keys
    expected, _ = reference(queries, keys, values, need_weights=False)
    found, weights = own(queries, keys, values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert weights is None


def test_masks(pair: tuple[PackedAttention, nn.MultiheadAttention]) -> None:
    own, reference = pair
    x, allowed = torch.randn(2, 6, 16), torch.rand(6, 6) > 0.5
    allowed |= torch.eye(6, dtype=torch.bool)
    expected, _ = reference(x, x, x, attn_mask=~allowed, need_weights=False)
    torch.testing.assert_close(own(x, x, x, attention_mask=allowed)[0], expected, atol=1e-5, rtol=1e-5)
