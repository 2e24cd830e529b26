"""bfloat16, the number format on GPUs: everything runs, and places stay exact enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from visionllm_tools.pose.decoder import PoseEstimator

SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
    "out_indices": [2, 3, 4],
}


@pytest.mark.parametrize("changes", [{}, {"backbone_config": SWIN}])
def test_an_estimator_runs_in_bfloat16(
    make_small: Callable[..., PoseEstimator], inputs: Callable[..., tuple[Tensor, ...]], changes: Any
) -> None:
    estimator = make_small(**changes).bfloat16()
    pixels, mask, labels, label_mask, names, name_mask = inputs()
    with torch.inference_mode():
        output = estimator(
            pixels.bfloat16(),
            mask,
            estimator.encode_labels(labels.bfloat16()),
            label_mask,
            estimator.encode_keypoints(names.bfloat16()),
            name_mask,
        )
    last = output.poses[-1]
    assert last.queries.dtype == torch.bfloat16
    assert last.boxes.dtype == torch.float32
    assert bool(torch.isfinite(last.boxes).all())
