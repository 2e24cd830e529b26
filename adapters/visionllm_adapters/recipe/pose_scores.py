"""Quick scores of poses while training; `visionllm evaluate` measures the real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from visionllm_tools.pose.loss import oks
from visionllm_tools.pose.outputs import PoseOutput
from visionllm_tools.pose.targets import PoseTargets

_SURE = 0.4
_NEAR = 0.2


@torch.no_grad()
def pose_scores(output: PoseOutput, targets: PoseTargets) -> dict[str, float]:
    """Scores of a batch: each figure is compared with the most similar of the best-scored poses of its class.

    Returns:
        `oks`: mean similarity; `oks75`: share of figures above 0.75; `pck`: share of placed keypoints within
        a fifth of the longer side of the figure's box; `alarms`: share of absent classes that got a pose;
        `seen_ok`: share of visibilities told right. Scores without anything to count are left out.
    """
    counts = {
        "figures": 0.0,
        "oks": 0.0,
        "oks75": 0.0,
        "points": 0.0,
        "near": 0.0,
        "flags": 0.0,
        "right": 0.0,
    }
    absent, alarms = 0, 0
    layer, points = output.poses[-1], output.keypoints[-1]
    scores = layer.logits.sigmoid()
    for row, count in enumerate(targets.objects.counts):
        labels = targets.objects.labels[row, :count]
        for column in range(int(output.label_mask[row].sum())):
            chosen = (labels == column).nonzero()[:, 0]
            if not len(chosen):
                absent += 1
                alarms += int(scores[row, :, column].max() > _SURE)
                continue
            best = scores[row, :, column].topk(min(len(chosen), scores.shape[1])).indices
            seen = None if points.visible is None else points.visible[row, best] > 0
            for one, number in _compare(points.points[row, best], seen, targets, row, chosen).items():
                counts[one] += number
    named = {
        "oks": ("oks", "figures"),
        "oks75": ("oks75", "figures"),
        "pck": ("near", "points"),
        "seen_ok": ("right", "flags"),
    }
    result = {name: counts[top] / counts[base] for name, (top, base) in named.items() if counts[base]}
    return result | ({"alarms": alarms / absent} if absent else {})


def _compare(
    found: Tensor, seen: Tensor | None, targets: PoseTargets, row: int, chosen: Tensor
) -> dict[str, float]:
    """Sums over the figures `chosen` of one picture, each against the most similar of `found` (Q, K, 2)."""
    placed, truth = targets.placed[row, chosen], targets.points[row, chosen]
    offset = found[:, None] - truth[None]  # (Q, n, K, 2)
    similar = oks(
        offset.square().sum(-1), placed[None], targets.areas[row, chosen][None], targets.sigmas[row]
    )
    value, query = similar.max(0)
    counted = placed.any(-1)
    own = offset[query, torch.arange(len(chosen))]  # (n, K, 2)
    side = targets.objects.boxes[row, chosen, 2:].amax(-1)
    near = (own.norm(dim=-1) < _NEAR * side[:, None]) & placed
    flags = targets.visible[row, chosen]
    return {
        "figures": float(counted.sum()),
        "oks": float(value[counted].sum()),
        "oks75": float((value[counted] > 0.75).sum()),
        "points": float(placed.sum()),
        "near": float(near.sum()),
        "flags": 0.0 if seen is None else float(flags.numel()),
        "right": 0.0 if seen is None else float((seen[query] == flags).sum()),
    }
