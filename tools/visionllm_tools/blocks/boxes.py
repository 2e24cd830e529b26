"""Box geometry on tensors. The last axis is (cx, cy, w, h) or (x1, y1, x2, y2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) left, top, right, bottom, in the same units."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom -> (..., 4) centre and size, in the same units."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Area of corner boxes, (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union and union area of corner boxes whose leading axes broadcast.

    Args:
        first: (..., 4).
        second: (..., 4).

    Returns:
        IoU (...), 0 for two empty boxes, and the union (...).
    """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    size = (high - low).clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    union = area(first) + area(second) - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny), union


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of corner boxes whose leading axes broadcast.

    Args:
        first: (..., 4).
        second: (..., 4).

    Returns:
        (...), in [-1, 1].
    """
    iou, union = overlap(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    size = (high - low).clamp(min=0)
    hull = size[..., 0] * size[..., 1]
    return iou - (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).tiny)


def coverage(first: Tensor, second: Tensor) -> Tensor:
    """Which share of the smaller of two corner boxes both have in common; leading axes broadcast.

    Args:
        first: (..., 4).
        second: (..., 4).

    Returns:
        (...), 0 where one is empty.
    """
    iou, union = overlap(first, second)
    smaller = torch.minimum(area(first), area(second))
    return iou * union / smaller.clamp(min=torch.finfo(union.dtype).tiny)


def suppress(boxes: Tensor, scores: Tensor, *, threshold: float, covered: float | None = None) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) corners.
        scores: (N,).
        threshold: a box is dropped when its IoU with a better kept one exceeds this.
        covered: it is dropped, too, when their `coverage` exceeds this; None: it is not.

    Returns:
        Indices of the kept boxes, best first (K,).
    """
    order = scores.argsort(descending=True, stable=True)
    one, other = boxes[order][:, None], boxes[order][None]
    same = overlap(one, other)[0] > threshold
    if covered is not None:
        same |= coverage(one, other) > covered
    apart = ~same.cpu().numpy()  # a loop over single values is ten times slower on tensors
    alive = np.ones(len(apart), dtype=np.bool_)
    for i in range(len(apart)):
        if alive[i]:
            alive[i + 1 :] &= apart[i, i + 1 :]
    return order[torch.from_numpy(alive).to(order.device)]
