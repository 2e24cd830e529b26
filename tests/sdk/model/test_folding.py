"""Folded copies of residual conv nets."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetBackbone

from visionllm_sdk.model.folding import FoldedCopy, folded


def backbone(**settings: Any) -> ResNetBackbone:
    """A small net whose batch norms have seen something."""
    torch.manual_seed(0)
    settings = {
        "embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1], "layer_type": "basic",
        "out_indices": [0, 1, 2, 3], **settings,
    }  # fmt: skip
    net = ResNetBackbone(ResNetConfig(**settings))
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.2)
            nn.init.normal_(part.bias, 0.0, 0.2)
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()


def maps(net: nn.Module | None, pixels: Tensor) -> tuple[Tensor, ...]:
    assert net is not None
    with torch.no_grad():
        found: tuple[Tensor, ...] = net(pixels.clone()).feature_maps
    return found


def close(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    assert len(one) == len(other)
    return all(float((a - b).norm() / b.norm()) < 1e-5 for a, b in zip(one, other, strict=True))


SETTINGS: list[dict[str, Any]] = [
    {}, {"layer_type": "bottleneck", "hidden_sizes": [16, 32, 64]}, {"hidden_act": "gelu"},
    {"downsample_in_first_stage": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=["basic", "bottleneck", "gelu", "downsample"])
@pytest.mark.parametrize("size", [(64, 64), (37, 70)])
def test_feature_maps_are_the_same(settings: dict[str, Any], size: tuple[int, int]) -> None:
    net = backbone(**settings)
    pixels = torch.randn(2, 3, *size)
    before = maps(net, pixels)
    copy = FoldedCopy().of(net, torch.float32)
    assert copy is not None
    assert not any(isinstance(part, nn.BatchNorm2d) for part in copy.modules())
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert close(maps(copy, pixels), before)
    assert close(maps(net, pixels), before)  # untouched


def step(net: nn.Module) -> None:
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    net(torch.randn(1, 3, 64, 64)).feature_maps[-1].sum().backward()
    optimiser.step()


def learnt_statistics(net: nn.Module) -> None:
    with torch.no_grad():
        net.train()(torch.randn(2, 3, 64, 64) * 3)
    net.eval()


def loaded(net: nn.Module) -> None:
    net.load_state_dict({name: value * 1.1 for name, value in net.state_dict().items()})


def replaced(net: nn.Module) -> None:
    layer = net.get_submodule("embedder.embedder.convolution")
    layer.weight = nn.Parameter(torch.randn(layer.weight.shape))


def replaced_at_the_same_place(net: nn.Module) -> None:
    layer = net.get_submodule("embedder.embedder.convolution")
    shape, layer.weight = layer.weight.shape, None  # type: ignore[union-attr, assignment]
    layer.weight = nn.Parameter(torch.randn(shape))  # type: ignore[arg-type]


def converted(net: nn.Module) -> None:
    net.double().float()
    net.get_parameter("embedder.embedder.convolution.weight").data = torch.randn(8, 3, 7, 7)


@pytest.mark.parametrize(
    "change", [step, learnt_statistics, loaded, replaced, replaced_at_the_same_place, converted]
)
def test_a_changed_net_has_another_copy(change: Callable[[nn.Module], None]) -> None:
    net, made = backbone(), FoldedCopy()
    pixels = torch.randn(1, 3, 64, 64)
    first = made.of(net, torch.float32)
    assert made.of(net, torch.float32) is first
    before = maps(first, pixels)
    change(net)
    second = made.of(net, torch.float32)
    assert second is not first
    assert not close(maps(second, pixels), before)
    assert close(maps(second, pixels), maps(net, pixels))


def test_another_format_is_another_copy() -> None:
    net, made = backbone(), FoldedCopy()
    first, second = made.of(net, torch.float32), made.of(net, torch.bfloat16)
    assert first is not second
    pixels = torch.randn(2, 3, 64, 64)
    exact, rounded = maps(first, pixels)[-1], maps(second, pixels.bfloat16())[-1]
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


class Scaled(nn.Conv2d):
    """Stands for what an adapter makes of a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def watched(net: nn.Module) -> None:
    net.get_submodule("encoder.stages.0").register_forward_hook(lambda *_: None)


def adapted(net: nn.Module) -> None:
    net.get_submodule("embedder.embedder").convolution = Scaled(3, 8, 7, 2, 3, bias=False)


def partly_training(net: nn.Module) -> None:
    net.get_submodule("encoder.stages.1").train()


def elsewhere(net: nn.Module) -> None:
    net.to("meta")


@pytest.mark.parametrize("change", [watched, adapted, partly_training, elsewhere])
def test_no_copy_of_what_is_no_plain_net_in_use(change: Callable[[nn.Module], None]) -> None:
    net = backbone()
    change(net)
    assert FoldedCopy().of(net, torch.float32) is None


def test_no_copy_of_weights_that_cannot_tell_whether_they_changed() -> None:
    with torch.inference_mode():
        net = backbone()
        assert FoldedCopy().of(net, torch.float32) is None
    assert FoldedCopy().of(nn.Conv2d(3, 3, 1), torch.float32) is None


def test_a_copy_made_in_inference_mode_serves_outside_of_it() -> None:
    net, made = backbone(), FoldedCopy()
    with torch.inference_mode():
        copy = made.of(net, torch.float32)
    assert copy is not None
    assert not any(parameter.is_inference() for parameter in copy.parameters())


@pytest.mark.parametrize("twin", [deepcopy, lambda made: pickle.loads(pickle.dumps(made))])  # noqa: S301
def test_copies_are_neither_copied_nor_saved(twin: Callable[[FoldedCopy], FoldedCopy]) -> None:
    net, made = backbone(), FoldedCopy()
    first = made.of(net, torch.float32)
    other = twin(made)
    assert other.of(net, torch.float32) is not first
    assert made.of(net, torch.float32) is first


def test_negative_values_are_cut_off_after_the_maximum() -> None:
    net = backbone()
    pooler = folded(net).get_submodule("embedder.pooler")
    assert [type(part) for part in pooler.children()] == [nn.MaxPool2d, nn.ReLU]
