"""Detectors for the tests: the tiny one with recorded weights, and a convolutional one from scratch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.keys import PREFIX, detector_key_table


@pytest.fixture(scope="session")
def tiny_config(goldens: Path) -> dict[str, Any]:
    return json.loads((goldens / "tiny_detector" / "config.json").read_text())["gdino_config"]


@pytest.fixture(scope="session")
def tiny_weights(goldens: Path) -> dict[str, Tensor]:
    """Weights under the released names below `gdino.`, shared tensors under every name."""
    stored = load_file(goldens / "tiny_detector" / "weights.safetensors")
    aliases = json.loads((goldens / "tiny_detector" / "config.json").read_text())["aliases"]
    stored |= {name: stored[source] for name, source in aliases.items()}
    return {name.removeprefix("gdino."): tensor for name, tensor in stored.items()}


def from_released(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a Swin detector under the names of its modules; both without the prefix."""
    table, found = detector_key_table(swin=True), {}
    for key, tensor in weights.items():
        names, split = table.to_module(PREFIX + key)
        found |= dict(zip((name.removeprefix(PREFIX) for name in names), split(tensor), strict=True))
    return found


@pytest.fixture(scope="session")
def make_tiny(tiny_config: dict[str, Any], tiny_weights: dict[str, Tensor]) -> Callable[..., Detector]:
    """The recorded detector, with changed fields of its configuration."""

    def make(**changes: Any) -> Detector:
        detector = Detector(DetectorConfig.from_dict({**tiny_config, **changes}))
        detector.load_state_dict(from_released(tiny_weights))
        return detector.eval()

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Detector]) -> Detector:
    """The recorded detector with the released batching of label masks; do not change it."""
    return make_tiny(mixed_label_masks=True)


@pytest.fixture(scope="session")
def golden_eval(goldens: Path) -> dict[str, Tensor]:
    return load_file(goldens / "golden_gdino_eval.safetensors")


@pytest.fixture
def scratch_config() -> DetectorConfig:
    """A small detector to train from scratch."""
    backbone = {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 16, 32],
        "depths": [1, 1, 1, 1],
        "out_indices": [1, 2, 3, 4],
    }
    return DetectorConfig(
        backbone_config=backbone,
        d_model=64,
        num_queries=10,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        mask_dim=16,
        l_hidden_size=24,
        dropout=0.0,
        fusion_droppath=0.0,
        logit_scale=64**-0.5,
        logit_bias=-4.6,
        usable_only=True,
        shortest_edge=64,
        longest_edge=128,
    )


@pytest.fixture
def scratch(scratch_config: DetectorConfig) -> Detector:
    torch.manual_seed(0)
    return Detector(scratch_config)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected magnitude; infinities must be at the same places."""
    finite = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(found), finite)
    return float(
        (found[finite] - expected[finite]).abs().max() / expected[finite].abs().max().clamp(min=1e-12)
    )


@pytest.fixture(scope="session")
def error() -> Callable[[Tensor, Tensor], float]:
    return relative_error
