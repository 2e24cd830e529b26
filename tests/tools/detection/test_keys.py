"""The module tree spells the released keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visionllm_sdk.errors import ConfigError
from visionllm_tools.detection.backbone import ConvEncoder, library_to_released, released_to_library
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector


def test_every_released_key_and_shape(goldens: Path) -> None:
    """At full size, without memory."""
    manifest = json.loads((goldens / "manifest_gdino_7b.json").read_text())
    with torch.device("meta"):
        detector = Detector(DetectorConfig.from_dict(manifest["gdino_config"]))
    found = {f"gdino.{name}": list(tensor.shape) for name, tensor in detector.state_dict().items()}
    assert found == manifest["shapes"]


def test_released_weights_survive_a_round_trip(tiny: Detector, tiny_weights: dict[str, Tensor]) -> None:
    written = tiny.state_dict()
    assert set(written) == set(tiny_weights)
    for name, tensor in tiny_weights.items():
        assert torch.equal(written[name], tensor), name


def test_a_strict_load_names_what_is_missing(
    tiny_config: dict[str, Any], tiny_weights: dict[str, Tensor]
) -> None:
    lost = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.1.attention.self.key.weight"
    weights = {name: tensor for name, tensor in tiny_weights.items() if name != lost}
    detector = Detector(DetectorConfig.from_dict(tiny_config))
    with pytest.raises(RuntimeError, match="Missing key"):
        detector.load_state_dict(weights)


def test_renaming_is_its_own_inverse(tiny_weights: dict[str, Tensor]) -> None:
    prefix = "model.backbone.conv_encoder.model."
    names = [name.removeprefix(prefix) for name in tiny_weights if name.startswith(prefix)]
    assert len(names) > 100
    assert all(library_to_released(released_to_library(name)) == name for name in names)


def test_a_backbone_without_four_outputs(scratch_config: DetectorConfig) -> None:
    config = scratch_config.backbone()
    config.out_indices = [2, 3, 4]
    with pytest.raises(ConfigError, match="strides 4, 8, 16 and 32"):
        ConvEncoder(config)


@pytest.mark.parametrize("count", [0, 257])
def test_a_pass_takes_a_limited_number_of_labels(scratch: Detector, count: int) -> None:
    labels, present = torch.zeros(1, count, 64), torch.ones(1, count, dtype=torch.bool)
    view = scratch.look(torch.zeros(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool))
    with pytest.raises(ConfigError, match="limited number of labels"):
        scratch.detect(view, labels, present)


def test_scratch_start(scratch: Detector) -> None:
    """Boxes start at their anchors, logits at the prior, sampling points in a star."""
    torch.manual_seed(0)
    scratch.eval()
    whole = torch.ones(1, 64, 64, dtype=torch.bool)
    with torch.inference_mode():
        output = scratch(torch.randn(1, 3, 64, 64), whole, torch.randn(1, 5, 64), whole[:, 0, :5])
    torch.testing.assert_close(output.boxes, output.encoder.boxes)
    assert 0.001 < float(output.logits.sigmoid().mean()) < 0.05
    offsets = scratch.model.encoder.layers[0].deformable_layer.self_attn.sampling_offsets.bias
    assert float(offsets.detach().abs().max()) == 4.0
