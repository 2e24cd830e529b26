"""The module tree spells the released keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.checkpoint import Target, WeightFiles, collect_weights, load_weights, save_weights
from visionllm_tools.detection.backbone import Backbone
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.keys import PREFIX, detector_key_table


def target(detector: Detector) -> Target:
    table = detector_key_table(swin=detector.model.backbone.conv_encoder.is_swin)
    return Target(module=detector, prefix=PREFIX, owned=(PREFIX,), table=table)


def test_every_released_key_and_shape(goldens: Path) -> None:
    """At full size, without memory."""
    manifest = json.loads((goldens / "manifest_gdino_7b.json").read_text())
    with torch.device("meta"):
        detector = Detector(DetectorConfig.from_dict(manifest["gdino_config"]))
    tensors, aliases = collect_weights([target(detector)])
    found = {key: list(tensor.shape) for key, tensor in tensors.items()}
    assert found | {key: found[stored] for key, stored in aliases.items()} == manifest["shapes"]


def test_released_weights_survive_a_round_trip(
    tiny: Detector, tiny_config: dict[str, Any], tiny_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """Through the files of a checkpoint; what the library computes by itself is written, too."""
    save_weights(tmp_path, [target(tiny)])
    files = WeightFiles(tmp_path)
    assert set(files) == {PREFIX + name for name in tiny_weights}
    for name, tensor in tiny_weights.items():
        assert torch.equal(files.read(PREFIX + name), tensor), name
    other = Detector(DetectorConfig.from_dict(tiny_config))
    load_weights(files, [target(other)])
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert other.mask_embed[0] is other.mask_embed[-1]


def test_a_lost_weight_is_named(tiny: Detector, tiny_weights: dict[str, Tensor], tmp_path: Path) -> None:
    lost = "gdino.model.backbone.conv_encoder.model.encoder.layers.0.blocks.1.attention.self.key.weight"
    stored = {PREFIX + name: tensor.clone() for name, tensor in tiny_weights.items()}
    save_file({key: tensor for key, tensor in stored.items() if key != lost}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing") as caught:
        load_weights(WeightFiles(tmp_path), [target(tiny)])
    assert lost in str(caught.value)


def test_a_backbone_without_four_outputs(scratch_config: DetectorConfig) -> None:
    config = scratch_config.backbone()
    config.out_indices = [2, 3, 4]
    with pytest.raises(ConfigError, match="strides 4, 8, 16 and 32"):
        Backbone(config)


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
