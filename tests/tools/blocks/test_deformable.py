"""Deformable attention equals the library's, on both of its ways and for every geometry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMultiscaleDeformableAttention,
    MultiScaleDeformableAttention,
)

from visionllm_tools.blocks.deformable import (
    DeformableAttention,
    DeformableEncoderLayer,
    Pyramid,
    initialise_deformable,
    sample_levels,
)
from visionllm_tools.blocks.positions import reference_points

Shapes = list[tuple[int, int]]
sides = st.integers(1, 6)


def library_samples(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    return MultiScaleDeformableAttention()(values, None, shapes, None, locations, weights, 64)


@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_samples(shapes: Shapes, batch: int, heads: int, queries: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = sum(height * width for height, width in shapes)
    values = torch.randn(batch, count, heads, 4, generator=generator)
    locations = torch.rand(batch, queries, heads, len(shapes), 2, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(shapes), 2, generator=generator)
    expected = library_samples(values, shapes, locations, weights)
    torch.testing.assert_close(
        sample_levels(values, shapes, locations, weights), expected, atol=1e-4, rtol=1e-4
    )
    learning = sample_levels(values.requires_grad_(), shapes, locations, weights)
    torch.testing.assert_close(learning, expected, atol=1e-5, rtol=1e-5)


def test_gradients_equal_the_librarys() -> None:
    torch.manual_seed(0)
    shapes = [(4, 5), (2, 3)]
    inputs = torch.randn(2, 26, 2, 4), torch.rand(2, 3, 2, 2, 2, 2), torch.rand(2, 3, 2, 2, 2)
    gradients = []
    for sample in (sample_levels, library_samples):
        values, locations, weights = (x.clone().requires_grad_() for x in inputs)
        sample(values, shapes, locations, weights).square().sum().backward()
        gradients.append((values.grad, locations.grad, weights.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def config() -> GroundingDinoConfig:
    return GroundingDinoConfig(
        d_model=16,
        encoder_attention_heads=2,
        encoder_ffn_dim=8,
        num_feature_levels=2,
        encoder_n_points=3,
        text_config={"model_type": "bert", "num_hidden_layers": 0},
    )


@pytest.mark.parametrize("coordinates", [2, 4])
def test_the_whole_attention(config: GroundingDinoConfig, coordinates: int) -> None:
    torch.manual_seed(0)
    own = DeformableAttention(config, 2, 3)
    reference = GroundingDinoMultiscaleDeformableAttention(config, 2, 3)
    reference.load_state_dict(own.state_dict())
    shapes = [(4, 5), (2, 3)]
    arguments = {
        "hidden_states": torch.randn(2, 7, 16),
        "attention_mask": torch.rand(2, 26) > 0.2,
        "encoder_hidden_states": torch.randn(2, 26, 16),
        "position_embeddings": torch.randn(2, 7, 16),
        "reference_points": torch.rand(2, 7, 2, coordinates),
        "spatial_shapes": torch.tensor(shapes),
        "spatial_shapes_list": shapes,
    }
    with torch.inference_mode():
        torch.testing.assert_close(own(**arguments)[0], reference(**arguments)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_encoding_in_blocks(
    config: GroundingDinoConfig, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = DeformableEncoderLayer(config).eval()
    shapes = [(6, 5), (3, 3)]
    padding = torch.zeros(2, 39, dtype=torch.bool)
    padding[1, 20:] = padded
    ratios = torch.ones(2, 2, 2)
    pyramid = Pyramid(
        tokens=torch.randn(2, 39, 16), shapes=shapes, ratios=ratios, padding=padding if padded else None
    )
    positions, references = torch.randn(1, 39, 16), reference_points(shapes, ratios)
    expected = layer.encode(pyramid, positions, references)  # with gradient: the library's order
    monkeypatch.setattr("visionllm_tools.blocks.feedforward.ROWS", 16)
    with torch.inference_mode():
        found = layer.encode(pyramid, positions, references)
    torch.testing.assert_close(found.clone(), expected.detach(), atol=1e-4, rtol=1e-4)


def test_initial_points_form_stars(config: GroundingDinoConfig) -> None:
    attention = DeformableAttention(config, 2, 3)
    initialise_deformable(attention)
    offsets = attention.sampling_offsets.bias.detach().view(2, 2, 3, 2)
    assert offsets.abs().amax(-1)[0, 0].tolist() == [1.0, 2.0, 3.0]
    torch.testing.assert_close(offsets[0], -offsets[1], atol=1e-5, rtol=0.0)


def test_pyramid_levels() -> None:
    tokens = torch.arange(2 * 10 * 3.0).view(2, 10, 3)
    pyramid = Pyramid(tokens=tokens, shapes=[(2, 3), (2, 2)], ratios=torch.ones(1, 2, 2), padding=None)
    assert pyramid.level(1).shape == (2, 3, 2, 2)
    assert torch.equal(pyramid.level(1)[0, :, 1, 0], tokens[0, 8])
    chosen = pyramid.rows(torch.tensor([1, 1, 0]))
    assert torch.equal(chosen.tokens, tokens[[1, 1, 0]])
    assert len(chosen.ratios) == 1
