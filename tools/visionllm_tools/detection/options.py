"""Typed arguments and ground truth of the detection tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError
from visionllm_sdk.tool import ToolOptions
from visionllm_tools.blocks.boxes import to_centres
from visionllm_tools.detection.known import Known
from visionllm_tools.detection.prepare import Size
from visionllm_tools.detection.targets import ImageTargets


class DetectionOptions(ToolOptions):
    """Arguments of detection, grounding and segmentation.

    Attributes:
        threshold: lowest score, 0 to 1; None takes the checkpoint's own.
        masks: whether detections carry masks.
        limit: most detections of one image; released evaluation uses 100.
        at_least: so many of the best are returned whatever their score; None: 1 for a grounding, else 0.
        of_each: so many of the best of every label are returned, whatever their score and number.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    masks: bool = True
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
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


def _shrunk(masks: Tensor, size: Size) -> Tensor:
    """(n, H, W) masks at another size; the library refuses to resize none of them."""
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.bool)
    return F.interpolate(masks[None].float(), size=size, mode="bilinear", antialias=True)[0] > 0.5
