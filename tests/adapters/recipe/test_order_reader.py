"""What super-links of drawing hold can be read, and only by who has learnt to."""

from __future__ import annotations

from random import Random

import pytest
import torch

from visionllm_adapters.recipe.order_reader import GROUP, THINGS, OrderReader
from visionllm_sdk.scenes.checker import Asked, AskedObject
from visionllm_sdk.scenes.drawing_language import EditWords, random_asked

WIDTH = 32


@pytest.fixture
def orders() -> dict[str, list[Asked | EditWords]]:
    rng = Random(3)
    edits = [EditWords("recolour", kind="star", new_colour="red"), EditWords("background", new_colour="blue")]
    return {"gen": [random_asked(rng) for _ in range(4)], "edit": list(edits)}


def test_reading_is_learnt(orders: dict[str, list[Asked | EditWords]]) -> None:
    torch.manual_seed(0)
    reader = OrderReader(WIDTH)
    states = {name: torch.randn(len(wanted), 64, WIDTH) for name, wanted in orders.items()}
    optimiser = torch.optim.AdamW(reader.parameters(), lr=0.05)
    first, _ = reader.loss(states, orders)
    for _ in range(200):
        loss, figures = reader.loss(states, orders)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.2 * first
    assert figures == {"draw_read": 1.0, "edit_read": 1.0}


def test_groups_of_queries_name_one_thing_each(orders: dict[str, list[Asked | EditWords]]) -> None:
    reader = OrderReader(WIDTH)
    states = torch.randn(4, 64, WIDTH, requires_grad=True)
    asked = [Asked((AskedObject("circle", "red"),), background=None)] * 4
    loss, _ = reader.loss({"gen": states}, {"gen": asked, "edit": []})
    loss.backward()
    reached = states.grad.abs().sum((0, 2)) > 0
    assert THINGS * GROUP < 64
    assert reached.all()  # absent things are said to be absent, the background is named too


def test_nothing_is_asked_for() -> None:
    loss, figures = OrderReader(WIDTH).loss({}, {"gen": [], "edit": []})
    assert float(loss) == 0
    assert figures == {}
