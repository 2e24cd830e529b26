"""Ground truth of a batch as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageTargets:
    """Ground truth of one image.

    Attributes:
        boxes: (n, 4) float (cx, cy, w, h) in [0, 1] of the image without padding.
        labels: (n,) long, index into the labels of this image's request.
        masks: (n, h, w) bool or uint8 at the *network input* size of this image without padding, or None.
        bears: (n, N) bool, every label that fits an object, or None.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    bears: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionTargets:
    """Ground truth of a batch; G is the largest number of objects in an image.

    Attributes:
        boxes: (B, G, 4) float (cx, cy, w, h) in [0, 1] of the image without padding.
        labels: (B, G) long.
        valid: (B, G) bool, True where there is an object.
        masks: (B, G, H, W) bool or uint8 over the padded input, or None.
        bears: (B, G, N) bool, every label that fits an object where labels overlap ("red circle", "circle"),
            its `labels` entry among them; None: that entry alone.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    masks: Tensor | None = None
    bears: Tensor | None = None

    @property
    def counts(self) -> list[int]:
        """Objects per image."""
        return [int(count) for count in self.valid.sum(1)]

    def to(self, device: torch.device) -> DetectionTargets:
        """The same on a device."""
        move = [None if x is None else x.to(device) for x in (self.masks, self.bears)]
        return DetectionTargets(
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            valid=self.valid.to(device),
            masks=move[0],
            bears=move[1],
        )

    @classmethod
    def collate(
        cls, items: Sequence[ImageTargets], *, size: tuple[int, int] | None = None
    ) -> DetectionTargets:
        """Pad the truth of several images to one batch; images without objects are welcome.

        Args:
            items: one per image.
            size: (height, width) of the padded input; required for masks.

        Raises:
            DataError: an item's numbers of boxes, labels and masks differ, or a mask exceeds `size`.
        """
        most = max([len(item.boxes) for item in items], default=0)
        with_masks = size is not None and all(item.masks is not None for item in items)
        boxes, labels = torch.zeros(len(items), most, 4), torch.zeros(len(items), most, dtype=torch.long)
        valid = torch.zeros(len(items), most, dtype=torch.bool)
        masks = []
        for i, item in enumerate(items):
            count = len(item.boxes)
            _check(i, item, size)
            boxes[i, :count], labels[i, :count], valid[i, :count] = item.boxes, item.labels, True
            if with_masks and size is not None and item.masks is not None:
                height, width = item.masks.shape[-2:]
                pad = (0, size[1] - width, 0, size[0] - height, 0, most - count)
                masks.append(F.pad(item.masks.to(torch.uint8), pad))
        return cls(
            boxes=boxes,
            labels=labels,
            valid=valid,
            masks=torch.stack(masks) if with_masks else None,
            bears=_pad_bears([item.bears for item in items], most),
        )


def _pad_bears(tables: Sequence[Tensor | None], most: int) -> Tensor | None:
    """(B, G, N) from (n, N) tables; None unless every image has one."""
    known = [table for table in tables if table is not None]
    if not known or len(known) < len(tables):
        return None
    labels = max(table.shape[1] for table in known)
    padded = [F.pad(table, (0, labels - table.shape[1], 0, most - len(table))) for table in known]
    return torch.stack(padded).bool()


def _check(index: int, item: ImageTargets, size: tuple[int, int] | None) -> None:
    parts = [len(item.boxes), len(item.labels)]
    if item.masks is not None:
        parts.append(len(item.masks))
        height, width = item.masks.shape[-2:]
        if size is not None and (height > size[0] or width > size[1]):
            raise DataError(
                f"masks of item {index} are larger than the padded input",
                value=(height, width),
                limit=size,
                remedy="Give masks at the network input size.",
            )
    if len(set(parts)) > 1:
        raise DataError(
            f"item {index} has different numbers of boxes, labels and masks",
            value=parts,
            remedy="Give one label and one mask per box.",
        )
