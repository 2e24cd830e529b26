"""Lean Swin layers equal the library's."""

from __future__ import annotations

import pytest
import torch
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from visionllm_tools.blocks import swin
from visionllm_tools.blocks.swin import LeanSwinLayer, make_lean, window_order


@pytest.fixture
def pair() -> tuple[SwinBackbone, SwinBackbone]:
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, out_indices=[1, 2])
    reference, lean = SwinBackbone(config).eval(), SwinBackbone(config).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    make_lean(lean)
    lean.load_state_dict(reference.state_dict())
    return reference, lean.eval()


@pytest.mark.parametrize("size", [(64, 64), (52, 36), (12, 100)])
@pytest.mark.parametrize("rows", [8, 512])
def test_equal_to_the_library(
    pair: tuple[SwinBackbone, SwinBackbone],
    size: tuple[int, int],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swin, "ROWS", rows)
    reference, lean = pair
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        found, expected = lean(pixels).feature_maps, reference(pixels).feature_maps
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_gradients_flow_as_in_the_library(pair: tuple[SwinBackbone, SwinBackbone]) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    for model in pair:
        model(pixels).feature_maps[-1].sum().backward()
    for (name, mine), theirs in zip(pair[1].named_parameters(), pair[0].parameters(), strict=True):
        if theirs.grad is not None:
            assert mine.grad is not None, name
            torch.testing.assert_close(mine.grad, theirs.grad)


def test_every_layer_is_replaced(pair: tuple[SwinBackbone, SwinBackbone]) -> None:
    for stage in pair[1].swin.encoder.layers:
        assert all(isinstance(layer, LeanSwinLayer) for layer in stage.blocks)
    shifts = [layer.shift_size for layer in pair[1].swin.encoder.layers[0].blocks]
    assert shifts == [0, 2]


def test_window_order_without_padding_is_a_permutation() -> None:
    index, regions = window_order(8, 4, 4, 2, torch.device("cpu"))
    assert index.shape == regions.shape == (2, 16)
    assert sorted(index.flatten().tolist()) == list(range(32))


def test_window_order_with_padding() -> None:
    index, _ = window_order(3, 5, 4, 0, torch.device("cpu"))
    assert index.shape == (2, 16)
    real = index[index < 15]
    assert sorted(real.tolist()) == list(range(15))
    assert (index == 15).sum() == 17
