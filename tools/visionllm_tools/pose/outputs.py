"""What comes out of the pose estimator's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from visionllm_tools.detection.outputs import LayerOutput


@dataclass(frozen=True, kw_only=True)
class KeypointOutput:
    """Keypoints of one layer. G groups of K keypoints.

    Attributes:
        points: (B, G, K, 2) (x, y) in [0, 1] of the image without padding.
        visible: (B, G, K) logits of being visible; None without a visibility head.
    """

    points: Tensor
    visible: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PoseOutput:
    """Everything a forward pass yields.

    Attributes:
        boxes: predictions after every box layer, of Q queries each.
        poses: predictions after every keypoint layer, of G groups each.
        keypoints: keypoints after every keypoint layer, of the same groups.
        extra: predictions of the extra queries after every layer of either kind; empty without them.
        encoder: the Q encoder proposals that became reference boxes.
        tokens: predictions of *all* S encoder tokens, in training only.
        usable: (B, S) bool, tokens that are image and may propose.
        label_mask: (B, N) bool, object classes that exist.
        keypoint_mask: (B, K) bool, keypoints that exist.
    """

    boxes: Sequence[LayerOutput]
    poses: Sequence[LayerOutput]
    keypoints: Sequence[KeypointOutput]
    extra: Sequence[LayerOutput] = field(default=())
    encoder: LayerOutput
    tokens: LayerOutput | None
    usable: Tensor
    label_mask: Tensor
    keypoint_mask: Tensor
