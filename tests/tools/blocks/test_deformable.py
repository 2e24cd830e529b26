"""Deformable attention equals the library's, with gradient and in blocks without."""

from __future__ import annotations

import pytest
import torch
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMultiscaleDeformableAttention,
)

from visionllm_tools.blocks import deformable, feedforward
from visionllm_tools.blocks.deformable import (
    DeformableAttention,
    DeformableDecoderLayer,
    DeformableEncoderLayer,
    Pyramid,
    initialise_deformable,
)
from visionllm_tools.blocks.positions import reference_points


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
    expected = reference(**arguments)[0].detach()
    torch.testing.assert_close(own(**arguments)[0].detach(), expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(own(**arguments)[0], expected, atol=1e-4, rtol=1e-4)


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
    monkeypatch.setattr(feedforward, "ROWS", 16)
    with torch.inference_mode():
        found = layer.encode(pyramid, positions, references)
    torch.testing.assert_close(found.clone(), expected.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_a_decoder_layer_whose_queries_read_first(
    config: GroundingDinoConfig, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = DeformableDecoderLayer(config).eval()
    padding = torch.rand(2, 39) < 0.2 if padded else None
    pyramid = Pyramid(
        tokens=torch.randn(2, 39, 16), shapes=[(6, 5), (3, 3)], ratios=torch.ones(2, 2, 2), padding=padding
    )
    arguments = {
        "positions": torch.randn(2, 3, 16),
        "boxes": torch.rand(2, 3, 2, 4),
        "pyramid": pyramid,
        "labels": torch.randn(2, 4, 16),
        "label_mask": None,
        "query_mask": None,
    }
    queries, decisions = torch.randn(2, 3, 16), iter([False, True])
    monkeypatch.setattr(deformable, "reads_first", lambda *_, **__: next(decisions))
    with torch.inference_mode():
        after, first = (layer.decode(queries, **arguments) for _ in range(2))
    torch.testing.assert_close(first, after, atol=1e-4, rtol=1e-4)
    assert pyramid.table(config.decoder_n_points) is pyramid.table(config.decoder_n_points)


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
