"""What tensors hold, told without reading them."""

from __future__ import annotations

import torch
from torch import nn

from visionllm_sdk.model.contents import Contents


def test_equal_until_something_is_written() -> None:
    layer = nn.Linear(3, 2)
    first = Contents.of(layer.parameters())
    assert first is not None
    assert Contents.of(layer.parameters()) == first
    assert Contents.of(layer.parameters(), first) is first
    with torch.no_grad():
        layer.bias.add_(1)
    assert Contents.of(layer.parameters(), first) != first


def test_other_tensors_cannot_take_the_place() -> None:
    tensor = torch.zeros(1000)
    first = Contents.of([tensor])
    assert first is not None
    del tensor
    others = [torch.zeros(1000) for _ in range(20)]
    assert all(Contents.of([other]) != first for other in others)


def test_tensors_that_do_not_count_writings_tell_nothing() -> None:
    with torch.inference_mode():
        assert Contents.of([torch.zeros(2)]) is None
