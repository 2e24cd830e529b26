"""From the estimator's output to typed poses in the pixels of the given image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionllm_sdk.results import Box, Keypoint, Pose
from visionllm_tools.detection.postprocess import Candidates, drop_duplicates, select
from visionllm_tools.detection.prepare import Size
from visionllm_tools.pose.outputs import PoseOutput


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the estimator said about one image: G groups, N object classes, K keypoints.

    Attributes:
        logits: (G, N) class logits.
        boxes: (G, 4) (cx, cy, w, h) in [0, 1].
        points: (G, K, 2) (x, y) in [0, 1].
        visible: (G, K) logits of being visible; None without a visibility head.
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor
    visible: Tensor | None

    @classmethod
    def of(cls, output: PoseOutput, row: int, *, labels: int, keypoints: int) -> Found:
        """One row of a batch, without its padding."""
        poses, points = output.poses[-1], output.keypoints[-1]
        return cls(
            logits=poses.logits[row, :, :labels],
            boxes=poses.boxes[row],
            points=points.points[row, :, :keypoints],
            visible=None if points.visible is None else points.visible[row, :, :keypoints],
        )


def choose(
    found: Found,
    original: Size,
    *,
    limit: int,
    floor: float,
    least: int,
    suppression: float | None,
    covered: float | None = None,
    shared: bool = False,
) -> Candidates:
    """The poses to return, best first.

    Args:
        found: of one image.
        original: height and width of the image as given.
        limit: most poses.
        floor: lowest score.
        least: so many are kept whatever their score.
        suppression: IoU above which a worse pose of the same label is dropped; None: keep all.
        covered: with suppression, share of the smaller box in the other above which it is dropped, too.
        shared: with suppression, see `drop_duplicates`.
    """
    candidates = select(found.logits, found.boxes, original, limit=limit)
    if suppression is not None:
        candidates = drop_duplicates(candidates, threshold=suppression, covered=covered, shared=shared)
    ranks = torch.arange(len(candidates.scores), device=candidates.scores.device)
    return candidates.take((candidates.scores >= floor) | (ranks < least))


def build_poses(
    found: Found,
    chosen: Candidates,
    original: Size,
    *,
    labels: Sequence[str],
    names: Sequence[str],
    visible_threshold: float,
) -> Iterator[Pose]:
    """Typed poses of the chosen candidates.

    A keypoint's score is the probability that it can be seen, where the checkpoint predicts that; else the
    score of its pose, and every keypoint counts as visible.

    Args:
        found: of one image.
        chosen: of `choose`.
        original: height and width of the image as given.
        labels: object classes.
        names: keypoint names.
        visible_threshold: score from which a keypoint counts as visible.
    """
    scale = found.points.new_tensor([original[1], original[0]])
    points = (found.points[chosen.queries] * scale).tolist()
    seen = None if found.visible is None else found.visible[chosen.queries].float().sigmoid().tolist()
    rows = zip(chosen.scores.tolist(), chosen.labels.tolist(), chosen.boxes.tolist(), points, strict=True)
    for i, (score, label, box, places) in enumerate(rows):
        shares = [score] * len(names) if seen is None else seen[i]
        yield Pose(
            label=labels[label],
            score=score,
            box=Box(*box).clipped(original[1], original[0]),
            keypoints=tuple(
                Keypoint(name=name, x=x, y=y, score=share, visible=seen is None or share >= visible_threshold)
                for name, (x, y), share in zip(names, places, shares, strict=True)
            ),
        )
