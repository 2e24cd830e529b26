"""The whole estimator stays what it was when it equalled the released code.

The weights of the released code's recordings are too large to be kept beside the tests (`test_parity.py` uses
them where they are at hand). These values were recorded from this implementation on the day on which all of
`test_parity.py` held, with weights that follow from their names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingNoise, plan_denoising
from visionllm_tools.detection.targets import ImageTargets
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.loss import PoseLossConfig, pose_loss
from visionllm_tools.pose.targets import ImagePoses, PoseTargets

FILE = "recorded_pose.safetensors"
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
    "drop_path_rate": 0.0,
    "out_indices": [2, 3, 4],
}
CASES: dict[str, dict[str, Any]] = {
    "own": {"dec_layers": 4, "num_box_decoder_layers": 2},
    "released": {"released_group_mask": True, "mixed_label_masks": True, "backbone_config": SWIN},
}


class Draws:
    """Numbers that no version of any library changes."""

    def __init__(self) -> None:
        self.source = np.random.RandomState(7)

    def normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.source.standard_normal(shape)).float()

    def uniform(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.source.uniform(size=shape)).float()


def compute(estimator: PoseEstimator) -> dict[str, Tensor]:
    """Outputs, and the terms of the loss with denoising."""
    draw = Draws()
    pixels, mask = draw.normal(2, 3, 64, 96), torch.ones(2, 64, 96, dtype=torch.bool)
    mask[1, 40:] = False
    pixels[1, :, 40:] = 0
    label_mask = torch.tensor([[True, True], [True, False]])
    keypoint_mask = torch.tensor([[True, True, True], [True, True, False]])
    labels = estimator.encode_labels(draw.normal(2, 2, 4, 24) * label_mask[..., None, None])
    keypoints = estimator.encode_keypoints(draw.normal(2, 3, 4, 24) * keypoint_mask[..., None, None])
    targets = PoseTargets.collate([item(draw, 2), item(draw, 1)])
    plain = estimator(pixels, mask, labels, label_mask, keypoints, keypoint_mask)
    plan = plan_denoising(
        targets.objects,
        labels,
        label_mask,
        learned=estimator.config.num_queries,
        config=DenoisingConfig(queries=4),
        noise=DenoisingNoise(
            flips=draw.uniform(2, 2, 2, 2),
            classes=torch.zeros(2, 2, 2, 2, dtype=torch.long),
            signs=draw.normal(2, 2, 2, 2, 4).sign(),
            sizes=draw.uniform(2, 2, 2, 2, 4),
        ),
    )
    assert plan is not None
    noisy = estimator(pixels, mask, labels, label_mask, keypoints, keypoint_mask, extra=plan.queries)
    _, terms = pose_loss(noisy, targets, PoseLossConfig(), denoising=plan)
    found = {"logits": plain.poses[-1].logits[:, :, :1], "boxes": plain.poses[-1].boxes}
    found["points"] = plain.keypoints[-1].points * keypoint_mask[:, None, :, None]
    return found | {f"loss.{name}": term for name, term in terms.items()}


def item(draw: Draws, count: int) -> ImagePoses:
    return ImagePoses(
        objects=ImageTargets(
            boxes=draw.uniform(count, 4) * 0.3 + 0.3, labels=torch.zeros(count, dtype=torch.long)
        ),
        keypoints=torch.cat([draw.uniform(count, 3, 2), torch.full((count, 3, 1), 2.0)], dim=-1),
        areas=torch.full((count,), 0.05),
        sigmas=torch.full((3,), 0.05),
    )


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_recorded(goldens: Path, make_small: Callable[..., PoseEstimator], case: str) -> None:
    recorded = load_file(goldens / FILE)
    found = compute(make_small(**CASES[case]))
    wanted = {name.removeprefix(f"{case}."): one for name, one in recorded.items() if name.startswith(case)}
    assert set(found) == set(wanted)
    for name, value in found.items():
        torch.testing.assert_close(
            value, wanted[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
