"""Stand-in features of what poses are asked by: object classes and keypoint names.

The pose estimator learns before any super-link says these words to it. Its super-links are then taught to
say what the tables say (`visionllm_adapters.recipe.train_joint`).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from visionllm_sdk.keypoints import AP10K, COCO, same_name

CLASSES: Final = ("person", "dog")
"""Kinds that have poses; the row after them stands for any other thing, which never has one."""
KEYPOINTS: Final = (*COCO.names, *(name for name in AP10K.names if name not in COCO.names))
"""Names that have a place; the row after them stands for any other name, which is never seen."""

_CLASS_ROWS: Final = {name: row for row, name in enumerate(CLASSES)}
_KEYPOINT_ROWS: Final = {same_name(name): row for row, name in enumerate(KEYPOINTS)}


def class_index(kind: str | None) -> int:
    """Row of an object class; None stands for a kind that nobody named."""
    return _CLASS_ROWS.get(kind or "", len(CLASSES))


def keypoint_index(name: str) -> int:
    """Row of a keypoint name, however it is spelt."""
    return _KEYPOINT_ROWS.get(same_name(name), len(KEYPOINTS))


class StandInPoses(nn.Module):
    """Features of classes and keypoint names. They are never learnt: the estimator learns to read them.

    So the language model can learn to say them at the same time. Names get random directions, which in so
    many dimensions are nearly orthogonal; classes take what the detector calls them.

    Args:
        width: channels of the estimator's labels (C).
        noise: in training, the size of random changes relative to a feature's own: super-links come close to
            these features, but never say them exactly.
    """

    def __init__(self, width: int, *, noise: float = 0.15) -> None:
        super().__init__()
        self.classes = nn.Embedding(len(CLASSES) + 1, width)
        self.keypoints = nn.Embedding(len(KEYPOINTS) + 1, width)
        self.noise = noise
        random = torch.Generator().manual_seed(17)
        for table in (self.classes, self.keypoints):
            nn.init.normal_(table.weight, std=0.5, generator=random)
        self.requires_grad_(False)

    def forward(self, classes: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and (B, K) long -> (B, N, C) and (B, K, C)."""
        return self._changed(self.classes(classes)), self._changed(self.keypoints(keypoints))

    def _changed(self, features: Tensor) -> Tensor:
        if not self.training or not self.noise:
            return features
        size = features.detach().square().mean(-1, keepdim=True).sqrt()
        return features + self.noise * size * torch.randn_like(features)
