"""Reading and writing the released configuration."""

from __future__ import annotations

from typing import Any

import pytest

from visionllm_sdk.errors import ConfigError
from visionllm_tools.detection.config import DetectorConfig


def test_the_released_form_survives(tiny_config: dict[str, Any]) -> None:
    config = DetectorConfig.from_dict(tiny_config)
    assert config.num_queries == 30
    written = config.to_dict()
    assert {name: written[name] for name in tiny_config} == tiny_config
    assert DetectorConfig.from_dict(written) == config


def test_defaults_are_the_released_sizes(tiny_config: dict[str, Any]) -> None:
    config = DetectorConfig.from_dict({"backbone_config": tiny_config["backbone_config"]})
    assert (config.num_queries, config.d_model, config.mask_dim, config.max_text_len) == (900, 256, 256, 256)
    assert (config.shortest_edge, config.longest_edge) == (800, 1333)
    assert config.suppression is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_attention_heads": 5}, "encoder_attention_heads does not divide"),
        ({"norm": "BN"}, "norm is unknown"),
        ({"d_model": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4}, "32 groups"),
    ],
)
def test_contradictions(tiny_config: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectorConfig.from_dict({**tiny_config, **changes})


def test_a_missing_backbone(tiny_config: dict[str, Any]) -> None:
    without = {name: value for name, value in tiny_config.items() if name != "backbone_config"}
    with pytest.raises(ConfigError, match="no backbone_config"):
        DetectorConfig.from_dict(without)
    with pytest.raises(ConfigError, match="no model_type"):
        DetectorConfig.from_dict({**tiny_config, "backbone_config": {"depths": [1]}}).backbone()
