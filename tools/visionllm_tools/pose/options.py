"""Typed arguments and ground truth of the pose tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from visionllm_sdk.tool import ToolOptions
from visionllm_tools.blocks.boxes import area, to_centres
from visionllm_tools.detection.prepare import Size
from visionllm_tools.detection.targets import ImageTargets
from visionllm_tools.pose.targets import ImagePoses


class PoseOptions(ToolOptions):
    """Arguments of pose estimation.

    Attributes:
        threshold: lowest score, 0 to 1; None takes the checkpoint's own.
        limit: most poses of one image.
        at_least: so many of the best are returned whatever their score.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    at_least: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class PoseTruth:
    """Ground truth of one request, for training.

    Attributes:
        boxes: (n, 4) float (x1, y1, x2, y2) in pixels of the image as given.
        labels: (n,) long, position of each object's class in the request's context.
        keypoints: (n, K, 3) float: x, y in pixels, and COCO's flag: 2 visible, 1 covered, 0 without a known
            place; K in the order of the request's labels.
        areas: (n,) float, pixels that each object covers; None: its box's.
    """

    boxes: Tensor
    labels: Tensor
    keypoints: Tensor
    areas: Tensor | None = None

    def at_input(self, original: Size, sigmas: Sequence[float]) -> ImagePoses:
        """The same truth for the loss.

        Args:
            original: height and width of the image as given.
            sigmas: of the keypoints.
        """
        height, width = original
        areas = area(self.boxes) if self.areas is None else self.areas
        scale = self.boxes.new_tensor([width, height])
        points = torch.cat([self.keypoints[..., :2] / scale, self.keypoints[..., 2:]], dim=-1)
        return ImagePoses(
            objects=ImageTargets(boxes=to_centres(self.boxes / scale.repeat(2)), labels=self.labels),
            keypoints=points,
            areas=areas / (height * width),
            sigmas=torch.tensor(sigmas),
        )
