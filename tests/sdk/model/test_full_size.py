"""The released families at full size, through the real loader, without memory for a single weight."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.sdk.model.full_size import manifest, write_full_size
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.assembly import Model, load_model
from visionllm_sdk.model.checkpoint import collect_weights
from visionllm_sdk.model.placement import Placement
from visionllm_sdk.registry import discover_tools

DRY = Placement(device=torch.device("meta"), dtype=torch.bfloat16)


def load(folder: Path) -> Model:
    return load_model(folder, registry=discover_tools(), placement=DRY)


@pytest.mark.parametrize("name", ["7b", pytest.param("26b", marks=pytest.mark.slow)])
def test_every_key_of_the_released_family_has_its_place(tmp_path: Path, name: str) -> None:
    """0 missing, 0 unexpected, every shape right; and the way back gives the same keys and shapes."""
    content = manifest(name)
    model = load(write_full_size(tmp_path / name, content))
    assert set(model.tools) == {"detect", "edit", "generate", "pose"}
    assert model.unclaimed == ()
    tensors, aliases = collect_weights(model.targets())
    shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
    shapes |= {key: shapes[stored] for key, stored in aliases.items()}
    assert shapes == {key: shape for key, (_, shape) in content["keys"].items()}
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}
    computed = sum(math.prod(shape) for key, (_, shape) in content["keys"].items() if "position_index" in key)
    report = model.memory()
    assert sum(part.parameters for part in report.parts) <= content["parameters"]
    assert sum(part.parameters for part in report.parts) > 0.999 * content["parameters"] - computed


def test_a_report_names_every_deviation(tmp_path: Path) -> None:
    lost = "gdino.model.backbone.conv_encoder.model.encoder.layers.1.blocks.0.attention.self.query.weight"
    odd = "unipose.backbone.0.layers.0.blocks.1.attn.qkv.weight"
    extra = "llm.model.layers.32.mlp.up_proj.weight"
    changes = {lost: None, odd: (96, 96), extra: (8, 8)}
    folder = write_full_size(tmp_path / "7b", manifest("7b"), **changes)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert f"1 missing ({lost})" in str(caught.value)
    assert f"1 unexpected ({extra})" in str(caught.value)
    assert f"1 misshaped ({odd} (96, 96), expected (288, 96))" in str(caught.value)
