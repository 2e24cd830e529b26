"""Ground truth of a batch as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError
from visionllm_tools.detection.targets import DetectionTargets, ImageTargets

_HIDDEN, _VISIBLE = 1, 2
"""COCO's flags; 0 stands for a keypoint without a known place."""


@dataclass(frozen=True, kw_only=True)
class ImagePoses:
    """Ground truth of one image with n objects and K keypoint names.

    Attributes:
        objects: boxes and labels.
        keypoints: (n, K, 3) float: x, y in [0, 1] of the image without padding, and COCO's flag: 2 visible,
            1 covered, 0 without a known place.
        areas: (n,) area of each object as a share of the image; it scales the OKS.
        sigmas: (K,) how precisely people place each keypoint; see `visionllm_sdk.keypoints.sigmas`.
    """

    objects: ImageTargets
    keypoints: Tensor
    areas: Tensor
    sigmas: Tensor


@dataclass(frozen=True, kw_only=True)
class PoseTargets:
    """Ground truth of a batch; G is the largest number of objects in an image, K that of keypoint names.

    Attributes:
        objects: boxes and labels.
        points: (B, G, K, 2) (x, y) in [0, 1] of the image without padding.
        placed: (B, G, K) bool, True where the place is known.
        visible: (B, G, K) bool, True where the keypoint can be seen.
        areas: (B, G) share of the image.
        sigmas: (B, K).
    """

    objects: DetectionTargets
    points: Tensor
    placed: Tensor
    visible: Tensor
    areas: Tensor
    sigmas: Tensor

    def to(self, device: torch.device) -> PoseTargets:
        """The same on a device."""
        return PoseTargets(
            objects=self.objects.to(device),
            points=self.points.to(device),
            placed=self.placed.to(device),
            visible=self.visible.to(device),
            areas=self.areas.to(device),
            sigmas=self.sigmas.to(device),
        )

    @classmethod
    def collate(cls, items: Sequence[ImagePoses]) -> PoseTargets:
        """Pad the truth of several images to one batch; images without objects are welcome.

        Raises:
            DataError: an item's numbers of boxes, keypoints, areas or sigmas differ.
        """
        for i, item in enumerate(items):
            _check(i, item)
        objects = DetectionTargets.collate([item.objects for item in items])
        most, names = objects.valid.shape[1], max(len(item.sigmas) for item in items)
        table = torch.stack([_pad(item.keypoints, most, names) for item in items])
        areas = [F.pad(item.areas, (0, most - len(item.areas)), value=1.0) for item in items]
        sigmas = [F.pad(item.sigmas, (0, names - len(item.sigmas)), value=1.0) for item in items]
        return cls(
            objects=objects,
            points=table[..., :2],
            placed=table[..., 2] >= _HIDDEN,
            visible=table[..., 2] >= _VISIBLE,
            areas=torch.stack(areas),
            sigmas=torch.stack(sigmas),
        )


def _pad(keypoints: Tensor, objects: int, names: int) -> Tensor:
    count, known, _ = keypoints.shape
    return F.pad(keypoints, (0, 0, 0, names - known, 0, objects - count))


def _check(index: int, item: ImagePoses) -> None:
    count = len(item.objects.boxes)
    wanted = (count, len(item.sigmas), 3)
    if tuple(item.keypoints.shape) != wanted or len(item.areas) != count:
        raise DataError(
            f"item {index} has different numbers of boxes, keypoints and areas",
            value=(count, tuple(item.keypoints.shape), len(item.areas)),
            limit=f"keypoints of shape {wanted}, and {count} areas",
            remedy="Give every object one row of keypoints and one area.",
        )
