from __future__ import annotations

import torch
from torch import nn

from visionllm_adapters.places import Place


def test_what_is_put_back_is_where_its_module_went_meanwhile() -> None:
    decoder = nn.Linear(2, 2)
    place, base = Place(decoder, "weight"), decoder.weight
    place.put(nn.Parameter(torch.zeros(2, 2)))
    decoder.to("meta")
    place.put(base)
    assert {value.device.type for value in decoder.parameters()} == {"meta"}


def test_what_is_put_back_is_the_very_parameter() -> None:
    decoder = nn.Linear(2, 2)
    place, base = Place(decoder, "weight"), decoder.weight
    place.put(nn.Parameter(torch.zeros(2, 2)))
    place.put(base)
    assert decoder.weight is base
