"""What a detector said before, and how far from it it is now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from visionllm_tools.blocks.boxes import to_centres
from visionllm_tools.detection.known import Known, strayed
from visionllm_tools.detection.outputs import LayerOutput, Predictions

LEFT, NEAR_LEFT, RIGHT = [0.1, 0.1, 0.4, 0.5], [0.1, 0.1, 0.42, 0.52], [0.6, 0.5, 0.9, 0.9]


def said(boxes: list[list[float]], logits: list[list[float]]) -> Known:
    return Known(boxes=torch.tensor(boxes), logits=torch.tensor(logits))


def output(*rows: tuple[list[list[float]], Tensor]) -> Predictions:
    """Predictions of which only the last layer is looked at."""
    layer = LayerOutput(
        logits=torch.stack([logits for _, logits in rows]),
        boxes=torch.stack([to_centres(torch.tensor(boxes)) for boxes, _ in rows]),
        queries=torch.zeros(len(rows), len(rows[0][0]), 1),
    )
    return cast(Predictions, SimpleNamespace(layers=[layer], logits=layer.logits))


def test_places_are_apart_and_of_interest() -> None:
    known = said([LEFT, NEAR_LEFT, RIGHT], [[2.0, -9.0], [1.0, 3.0], [-8.0, -8.0]])
    assert known.places().tolist() == [pytest.approx(NEAR_LEFT)]
    assert known.said_of(torch.tensor([LEFT])).tolist() == [[2.0, 3.0]]
    assert known.said_of(torch.tensor([[0.4, 0.6, 0.5, 0.9]])).tolist() == [[-torch.inf, -torch.inf]]


def test_the_same_boxes_in_another_order_have_not_strayed() -> None:
    logits = torch.tensor([[1.0, -4.0], [-3.0, 2.0]])
    known = said([LEFT, RIGHT], logits.tolist())
    now = output(([RIGHT, NEAR_LEFT], logits.flip(0)))
    assert float(strayed(now, [known])) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("move", [-1.0, 1.0])
def test_scores_are_drawn_back(move: float) -> None:
    logits = torch.tensor([[1.0], [-1.0]])
    known = said([LEFT, RIGHT], logits.tolist())
    now = (logits + move).requires_grad_()
    loss = strayed(output(([LEFT, RIGHT], now)), [known])
    assert float(loss.detach()) > 0.05
    loss.backward()
    assert now.grad is not None
    assert (now.grad.sign() == torch.tensor(move).sign()).all()


def test_what_was_not_there_is_drawn_down() -> None:
    known = said([LEFT, LEFT], [[1.0], [1.0]])
    now = torch.tensor([[1.0], [2.0]], requires_grad=True)
    strayed(output(([LEFT, RIGHT], now)), [known]).backward()
    assert now.grad is not None
    assert now.grad[0].item() == pytest.approx(0, abs=1e-6)
    assert now.grad[1].item() > 0


def test_a_lost_box_and_unknown_rows_say_nothing() -> None:
    known = said([LEFT], [[3.0]])
    quiet = torch.full((1, 1), -9.0)
    found: Any = strayed(output(([RIGHT], quiet), ([LEFT], quiet)), [known, None])
    assert float(found) == 0
    assert float(strayed(output(([LEFT], quiet)), [None])) == 0


def test_absent_labels_of_a_padded_row_are_left_out() -> None:
    layer = output(([LEFT], torch.tensor([[1.0, -torch.inf]]))).layers[-1]
    assert Known.of(layer, 0, 1).logits.tolist() == [[1.0]]
