"""Pose estimators for the tests: small ones with repeatable weights, and the recorded one."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from visionllm_sdk.model.checkpoint import Target, WeightFiles, load_weights
from visionllm_tools.pose.config import PoseConfig
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.keys import PREFIX, pose_key_table

RESNET = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "out_indices": [2, 3, 4],
}
SMALL = PoseConfig(
    backbone_config=RESNET,
    hidden_dim=32,
    nheads=4,
    enc_layers=1,
    dec_layers=3,
    num_box_decoder_layers=1,
    num_queries=14,
    num_groups=5,
    num_body_points=6,
    dim_feedforward=32,
    fusion_droppath=0.0,
    l_hidden_size=24,
    dn_number=8,
    shortest_edge=64,
    longest_edge=96,
)


@torch.no_grad()
def fill(estimator: PoseEstimator) -> PoseEstimator:
    """Weights that depend on nothing but their names: the same on every machine and in every version."""
    done: set[int] = set()
    for name, parameter in estimator.named_parameters():
        if id(parameter) in done:
            continue
        done.add(id(parameter))
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(parameter.shape))
        fan = parameter.shape[1:].numel() if parameter.dim() > 1 else 16
        scale = 0.3 if "embed.0.layers.2" in name else 1.0  # heads: stay away from saturation
        centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        parameter.copy_(torch.from_numpy(values * scale / fan**0.5 + centre))
    return estimator


@pytest.fixture(scope="session")
def make_small() -> Callable[..., PoseEstimator]:
    """A small estimator in evaluation mode, with changed fields of its configuration."""

    def make(**changes: Any) -> PoseEstimator:
        return fill(PoseEstimator(dataclasses.replace(SMALL, **changes))).eval()

    return make


@pytest.fixture(scope="session")
def small(make_small: Callable[..., PoseEstimator]) -> PoseEstimator:
    """The small estimator; do not change it."""
    return make_small()


@pytest.fixture(scope="session")
def inputs() -> Callable[..., tuple[Tensor, ...]]:
    """Repeatable input of a small estimator: pixels, object classes and keypoints, each with its mask."""

    def make(
        batch: int = 2, *, labels: int = 2, keypoints: int = 4, size: tuple[int, int] = (64, 96)
    ) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(5)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        pixels, mask = draw(batch, 3, *size), torch.ones(batch, *size, dtype=torch.bool)
        if batch > 1:
            mask[1, size[0] - 20 :] = False
            pixels[1, :, size[0] - 20 :] = 0
        states = draw(batch, labels, 4, 24), draw(batch, keypoints, 4, 24)
        label_mask = torch.ones(batch, labels, dtype=torch.bool)
        keypoint_mask = torch.ones(batch, keypoints, dtype=torch.bool)
        return pixels, mask, states[0], label_mask, states[1], keypoint_mask

    return make


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder with the recordings of the released code, which are too large to be kept beside the tests.

    Set VISIONLLM_REFERENCE to it; it holds `tiny/` with the weights and `goldens/`.
    """
    folder = os.environ.get("VISIONLLM_REFERENCE")
    if folder is None:
        pytest.skip("VISIONLLM_REFERENCE is not set: the recordings are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def make_tiny(reference: Path) -> Callable[..., PoseEstimator]:
    """The recorded estimator, with changed fields of its configuration."""
    released = json.loads((reference / "tiny" / "config.json").read_text())
    backbone = {"model_type": "swin", "out_indices": [2, 3, 4]}
    backbone |= released["_harness"]["unipose_backbone_override"]

    def make(**changes: Any) -> PoseEstimator:
        numbers = {**released["unipose_config"], "backbone_config": backbone, **changes}
        estimator = PoseEstimator(PoseConfig.from_dict(numbers))
        target = Target(
            module=estimator, prefix=PREFIX, owned=(PREFIX,), table=pose_key_table(swin=estimator.is_swin)
        )
        load_weights(WeightFiles(reference / "tiny"), [target])
        return estimator.eval()

    return make
