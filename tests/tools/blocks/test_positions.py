"""Sine embeddings and geometry over the pyramid."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoEncoder,
    encode_sinusoidal_position_embedding,
)

from visionllm_tools.blocks.positions import (
    anchor_embedding,
    label_embedding,
    proposals,
    reference_points,
    valid_ratios,
)

shapes_strategy = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3)


def test_embeddings_equal_the_librarys() -> None:
    anchors = torch.rand(2, 5, 4)
    expected = encode_sinusoidal_position_embedding(anchors, num_pos_feats=16)
    torch.testing.assert_close(anchor_embedding(anchors, width=16), expected)
    order = torch.arange(6.0)[None, :, None]
    expected = encode_sinusoidal_position_embedding(order, num_pos_feats=16)
    found = label_embedding(torch.ones(1, 6, dtype=torch.bool), width=16, dtype=torch.float32)
    torch.testing.assert_close(found, expected)


def test_absent_labels_stand_at_zero() -> None:
    mask = torch.tensor([[True, True, False, False]])
    found = label_embedding(mask, width=8, dtype=torch.float32)[0]
    assert torch.equal(found[2], found[0])
    assert not torch.equal(found[1], found[0])


@given(shapes=shapes_strategy)
def test_reference_points(shapes: list[tuple[int, int]]) -> None:
    ratios = torch.rand(2, len(shapes), 2) * 0.5 + 0.5
    expected = GroundingDinoEncoder.get_reference_points(shapes, ratios, device=ratios.device)
    torch.testing.assert_close(reference_points(shapes, ratios), expected)


@given(height=st.integers(1, 12), width=st.integers(1, 12), top=st.integers(1, 12), left=st.integers(1, 12))
def test_valid_ratios(height: int, width: int, top: int, left: int) -> None:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, :top, :left] = True
    found = valid_ratios(mask)[0].tolist()
    assert found == torch.tensor([min(left, width) / width, min(top, height) / height]).tolist()


@given(shapes=shapes_strategy)
def test_proposals(shapes: list[tuple[int, int]]) -> None:
    count = sum(height * width for height, width in shapes)
    valid = torch.ones(1, count, dtype=torch.bool)
    valid[0, 0] = False
    logits, usable = proposals(shapes, valid)
    assert not usable[0, 0]
    assert torch.isinf(logits[~usable]).all()
    boxes = logits[usable].sigmoid()
    assert ((boxes > 0.0099) & (boxes < 0.9901)).all()


def test_proposals_double_their_size_per_level() -> None:
    logits, usable = proposals([(8, 8), (4, 4)], torch.ones(1, 80, dtype=torch.bool))
    assert usable.all()
    sizes = logits.sigmoid()[0, :, 2:]
    torch.testing.assert_close(sizes[:64], torch.full((64, 2), 0.05))
    torch.testing.assert_close(sizes[64:], torch.full((16, 2), 0.1))
