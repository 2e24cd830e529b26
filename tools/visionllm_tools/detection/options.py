"""Typed arguments and ground truth of the detection tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError
from visionllm_sdk.tool import ToolOptions
from visionllm_tools.blocks.boxes import to_centres
from visionllm_tools.detection.config import Look
from visionllm_tools.detection.known import Known
from visionllm_tools.detection.prepare import Size, input_size
from visionllm_tools.detection.targets import ImageTargets


class DetectionOptions(ToolOptions):
    """Arguments of detection, grounding and segmentation.

    Attributes:
        threshold: lowest score, 0 to 1; None takes the checkpoint's own.
        masks: whether detections carry masks.
        limit: most detections of one image, of all labels together; None: all that reach the threshold, which
            can be as many for every label as the detector has queries. Released evaluation uses 100.
        at_least: so many of the best are returned whatever their score; None: 1 for a grounding, else 0.
        of_each: so many of the best of every label are returned, whatever their score and number.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    masks: bool = True
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None
    at_least: Annotated[int, Field(ge=0)] | None = None
    of_each: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionTruth:
    """Ground truth of one request, for training.

    Attributes:
        boxes: (n, 4) float (x1, y1, x2, y2) in pixels of the image as given.
        labels: (n,) long, position of each object's label in the request.
        masks: (n, H, W) bool of the image's size, or None.
        bears: (n, N) bool, every label of the request that fits an object; None: `labels` alone.
        known: what the detector said before it began to learn, to be kept; see `DetectionTool.recall`.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    bears: Tensor | None = None
    known: Known | None = None

    def at_input(self, original: Size, size: Size) -> ImageTargets:
        """The same truth for the detector's input.

        Args:
            original: height and width of the image as given.
            size: height and width after resizing, without padding.

        Raises:
            DataError: masks of another size than the image.
        """
        scale = self.boxes.new_tensor([original[1], original[0]] * 2)
        masks = self.masks
        if masks is not None and tuple(masks.shape[-2:]) != original:
            raise DataError(
                "masks of a detection target are not of the image's size",
                value=tuple(masks.shape[-2:]),
                limit=original,
                remedy="Give masks of the image as it is passed.",
            )
        if masks is not None and size != original:
            masks = _shrunk(masks, size)
        return ImageTargets(
            boxes=to_centres(self.boxes / scale), labels=self.labels, masks=masks, bears=self.bears
        )


def look_for(looks: Sequence[Look], image: Image.Image, target: DetectionTruth) -> Look:
    """How an image is to be seen in training: as what it shows will be seen in use.

    Args:
        looks: of the detector.
        image: as given.
        target: its truth. What was known before learning is known of the first look.
    """
    first, *more = looks
    if not more or target.known is not None or not len(target.boxes):
        return first
    (second,) = more
    original = (image.height, image.width)
    size = input_size(original, shortest=second.shortest_edge, longest=second.longest_edge)
    scale = target.boxes.new_tensor([size[1] / original[1], size[0] / original[0]])
    large = second.tells_of((target.boxes[:, 2:] - target.boxes[:, :2]) * scale)
    half = bool(large.any()) and bool(torch.rand(()) < 0.5)
    return second if half or bool(large.all()) else first


def _shrunk(masks: Tensor, size: Size) -> Tensor:
    """(n, H, W) masks at another size; the library refuses to resize none of them."""
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.bool)
    return F.interpolate(masks[None].float(), size=size, mode="bilinear", antialias=True)[0] > 0.5
