"""Box geometry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.loss.loss_for_object_detection import generalized_box_iou

from visionllm_tools.blocks.boxes import (
    area,
    coverage,
    generalised_iou,
    overlap,
    suppress,
    to_centres,
    to_corners,
)


@st.composite
def corner_boxes(draw: st.DrawFn, size: int = 4) -> Tensor:
    """Boxes with x1 <= x2 and y1 <= y2, some of them empty."""
    numbers = st.floats(-100, 100, width=32)
    rows = draw(st.lists(st.tuples(*[numbers] * 4), min_size=1, max_size=size))
    boxes = torch.tensor(rows)
    return torch.cat([boxes.view(-1, 2, 2).amin(1), boxes.view(-1, 2, 2).amax(1)], dim=1)


@given(boxes=corner_boxes())
def test_forms_are_inverse(boxes: Tensor) -> None:
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes, atol=1e-4, rtol=1e-4)
    assert (area(boxes) >= 0).all()


@given(first=corner_boxes(), second=corner_boxes())
def test_iou_and_giou(first: Tensor, second: Tensor) -> None:
    iou = overlap(first[:, None], second[None])[0]
    giou = generalised_iou(first[:, None], second[None])
    assert ((iou >= 0) & (iou <= 1 + 1e-5)).all()
    assert ((giou >= -1 - 1e-5) & (giou <= iou + 1e-5)).all()
    torch.testing.assert_close(giou, generalised_iou(second[:, None], first[None]).T)
    solid = (area(first)[:, None] > 1e-3) & (area(second)[None] > 1e-3)
    torch.testing.assert_close(giou[solid], generalized_box_iou(first, second)[solid], atol=1e-4, rtol=1e-4)


@given(boxes=corner_boxes())
def test_giou_with_itself(boxes: Tensor) -> None:
    solid = area(boxes) > 1e-3
    found = generalised_iou(boxes, boxes)
    torch.testing.assert_close(found[solid], torch.ones_like(found[solid]), atol=1e-4, rtol=1e-4)
    assert torch.isfinite(found).all(), "also for empty boxes"


def test_known_values() -> None:
    first, second = torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3])
    assert float(overlap(first, second)[0]) == pytest.approx(1 / 7)
    assert float(generalised_iou(first, second)) == pytest.approx(1 / 7 - 2 / 9)
    assert float(coverage(first, second)) == pytest.approx(1 / 4)
    assert float(coverage(first, torch.tensor([1.0, 0, 2, 1]))) == pytest.approx(1)
    assert float(coverage(first, torch.tensor([1.0, 1, 1, 2]))) == 0  # empty


@given(first=corner_boxes(), second=corner_boxes())
def test_coverage(first: Tensor, second: Tensor) -> None:
    found = coverage(first[:, None], second[None])
    assert ((found >= 0) & (found <= 1 + 1e-3)).all()
    assert (found >= overlap(first[:, None], second[None])[0] - 1e-4).all()
    torch.testing.assert_close(found, coverage(second[:, None], first[None]).T)


def test_suppression_of_parts() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 6, 9, 10.5], [8, 0, 18, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert suppress(boxes, scores, threshold=0.7).tolist() == [0, 1, 2]
    assert suppress(boxes, scores, threshold=0.7, covered=0.8).tolist() == [0, 2]
    assert suppress(boxes, scores.flip(0), threshold=0.7, covered=0.8).tolist() == [2, 1]


@given(boxes=corner_boxes(size=8), threshold=st.floats(0.1, 0.9))
def test_suppression_keeps_the_best_of_each_crowd(boxes: Tensor, threshold: float) -> None:
    scores = torch.linspace(1, 0, len(boxes))
    kept = suppress(boxes, scores, threshold=threshold).tolist()
    assert kept[0] == 0
    assert kept == sorted(kept)
    for number in range(len(boxes)):
        rivals = [other for other in kept if other < number]
        worst = max((float(overlap(boxes[number], boxes[other])[0]) for other in rivals), default=0.0)
        assert (number in kept) == (worst <= threshold)
