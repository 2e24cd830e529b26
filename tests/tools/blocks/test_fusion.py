"""Fusion attention equals the library's, though it multiplies in another order."""

from __future__ import annotations

import pytest
import torch
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoBiMultiHeadAttention

from visionllm_tools.blocks.fusion import FusionAttention, between_labels


@pytest.mark.parametrize("masked", [False, True])
def test_equal_to_the_library(masked: bool) -> None:
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        d_model=16,
        encoder_attention_heads=4,
        encoder_ffn_dim=24,
        text_config={"model_type": "bert", "num_hidden_layers": 0},
    )
    own, reference = FusionAttention(config), GroundingDinoBiMultiHeadAttention(config)
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference.load_state_dict(own.state_dict())
    image, labels = torch.randn(2, 30, 16), torch.randn(2, 5, 16)
    hidden = torch.rand(2, 30) > 0.7 if masked else None
    absent = torch.tensor([[False] * 5, [False, False, True, True, True]]) if masked else None
    expected = reference(image, labels, hidden, absent)
    found = own(image, labels, hidden, absent)
    for (mine, _), (theirs, _) in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_between_labels() -> None:
    mask = torch.tensor([[True, True, False]])
    seen = between_labels(mask)
    assert seen.shape == (1, 1, 3, 3)
    assert seen[0, 0].tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_released_mixing_of_masks() -> None:
    """Head h of item b gets the mask of item (b * heads + h) mod B."""
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    plain, mixed = between_labels(mask), between_labels(mask, mixed_heads=2)
    for item in range(3):
        for head in range(2):
            assert torch.equal(mixed[item, head], plain[(item * 2 + head) % 3, 0])
