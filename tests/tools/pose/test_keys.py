"""The key table covers the released 7B layout exactly, and weights survive a round trip through a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.checkpoint import Target, WeightFiles, load_weights, save_weights
from visionllm_tools.pose.config import PoseConfig
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.keys import PREFIX, pose_key_table

SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
    "out_indices": [2, 3, 4],
}


def target(estimator: PoseEstimator) -> Target:
    table = pose_key_table(swin=estimator.is_swin)
    return Target(module=estimator, prefix=PREFIX, owned=(PREFIX,), table=table)


@pytest.fixture(scope="module")
def manifest(goldens: Path) -> dict[str, Any]:
    return json.loads((goldens / "manifest_pose_7b.json").read_text())


@pytest.fixture(scope="module")
def full_size(manifest: dict[str, Any]) -> PoseEstimator:
    with torch.device("meta"):
        return PoseEstimator(PoseConfig.from_dict(manifest["config"]))


def test_every_released_key_has_its_place(manifest: dict[str, Any], full_size: PoseEstimator) -> None:
    state = {PREFIX + name: tuple(value.shape) for name, value in full_size.state_dict().items()}
    table = pose_key_table(swin=True)
    covered: set[str] = set()
    for key, shape in manifest["keys"].items():
        names, split = table.to_module(PREFIX + key)
        pieces = [tuple(piece.shape) for piece in split(torch.empty(shape, device="meta"))]
        assert [state[name] for name in names] == pieces, key
        covered.update(names)
    assert covered == set(state)


def test_every_module_key_has_its_released_name(manifest: dict[str, Any], full_size: PoseEstimator) -> None:
    table = pose_key_table(swin=True)
    written = {table.to_released(PREFIX + name)[0].removeprefix(PREFIX) for name in full_size.state_dict()}
    computed = {key for key in manifest["keys"] if key.endswith("relative_position_index")}
    assert written == set(manifest["keys"]) - computed


def test_shared_tensors_are_one(manifest: dict[str, Any], full_size: PoseEstimator) -> None:
    parameters = dict(full_size.named_parameters(remove_duplicate=False))
    for alias, source in manifest["aliases"].items():
        assert parameters[alias] is parameters[source]


@pytest.mark.parametrize("changes", [{}, {"backbone_config": SWIN}, {"keypoint_visibility": True}])
def test_weights_survive_a_file(
    make_small: Callable[..., PoseEstimator], tmp_path: Path, changes: dict[str, Any]
) -> None:
    source, other = make_small(**changes), make_small(**changes)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    save_weights(tmp_path, [target(source)])
    load_weights(WeightFiles(tmp_path), [target(other)])
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    stored = set(WeightFiles(tmp_path))
    assert (PREFIX + "backbone.0.layers.0.blocks.0.attn.qkv.weight" in stored) == bool(source.is_swin)
    assert PREFIX + "transformer.encoder.text_layers.0.self_attn.in_proj_weight" in stored
    assert other.bbox_embed[0] is other.transformer.decoder.bbox_embed[-1]


def test_a_backbone_needs_three_maps(make_small: Callable[..., PoseEstimator]) -> None:
    config = PoseConfig(backbone_config={**SWIN, "out_indices": [1, 2, 3, 4]})
    with pytest.raises(ConfigError, match="strides 8, 16 and 32"):
        PoseEstimator(config)
