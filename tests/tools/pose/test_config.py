"""The released configuration is read, kept and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visionllm_sdk.errors import ConfigError
from visionllm_tools.pose.config import PoseConfig


@pytest.fixture(scope="module")
def released(goldens: Path) -> dict[str, Any]:
    return json.loads((goldens / "manifest_pose_7b.json").read_text())["config"]


def test_released_numbers(released: dict[str, Any]) -> None:
    config = PoseConfig.from_dict(released)
    assert (config.num_queries, config.num_groups, config.num_body_points) == (900, 50, 68)
    assert (config.dec_layers, config.num_box_decoder_layers) == (6, 2)
    assert config.released_group_mask
    assert config.backbone_library().depths == [2, 2, 6, 2]


def test_unknown_fields_survive(released: dict[str, Any]) -> None:
    written = PoseConfig.from_dict(released).to_dict()
    assert {name: written[name] for name in released} == released
    assert PoseConfig.from_dict(written) == PoseConfig.from_dict(released)


def test_own_models_do_without_the_released_mask() -> None:
    assert not PoseConfig().released_group_mask
    assert not PoseConfig.from_dict({"released_group_mask": False}).released_group_mask


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_dim": 48}, "hidden_dim"),
        ({"nheads": 3}, "nheads"),
        ({"num_box_decoder_layers": 6}, "num_box_decoder_layers"),
        ({"num_box_decoder_layers": 0}, "num_box_decoder_layers"),
        ({"num_groups": 901}, "groups"),
        ({"num_body_points": 0}, "keypoints"),
    ],
)
def test_impossible_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PoseConfig.from_dict(changes)


@pytest.mark.parametrize("changes", [{"backbone": "vit_9000"}, {"backbone_config": {"depths": [1]}}])
def test_unknown_backbones(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="which backbone"):
        PoseConfig(**changes).backbone_library()
