"""Label and box terms of any number of layers at once; what detection and pose estimation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_tools.blocks.boxes import generalised_iou, to_corners
from visionllm_tools.detection.matcher import MatchCosts, Pairs, cost_matrix, match_one_to_many
from visionllm_tools.detection.outputs import LayerOutput
from visionllm_tools.detection.targets import DetectionTargets


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Predictions of several layers, (L, B, K, ...), with the suffix of each layer's terms."""

    logits: Tensor
    boxes: Tensor
    queries: Tensor
    names: list[str]

    @classmethod
    def of(cls, layers: dict[str, LayerOutput]) -> Self:
        """Stack layers of equally many queries; the keys become the suffixes."""
        return cls(
            logits=torch.stack([layer.logits for layer in layers.values()]),
            boxes=torch.stack([layer.boxes for layer in layers.values()]),
            queries=torch.stack([layer.queries for layer in layers.values()]),
            names=list(layers),
        )


def box_terms(
    stack: Stack,
    pairs: Pairs,
    targets: DetectionTargets,
    label_mask: Tensor,
    objects: float,
    *,
    alpha: float,
    usable: Tensor | None = None,
) -> dict[str, Tensor]:
    """Unweighted `label`, `box` and `giou` terms of every layer, each divided by the number of objects.

    Args:
        stack: predictions.
        pairs: which query answers for which object.
        targets: ground truth.
        label_mask: (B, N) bool, True where a label exists.
        objects: what the sums are divided by.
        alpha: of the focal loss.
        usable: (B, K) bool, queries that count; None: all.
    """
    focal = _focal(stack, pairs, targets, label_mask, alpha, usable)
    found = stack.boxes[pairs.layer, pairs.image, pairs.query]
    truth = targets.boxes[pairs.image, pairs.target].to(found.dtype)
    distance = (found - truth).abs().sum(-1)
    giou = 1 - generalised_iou(to_corners(found), to_corners(truth))
    count = len(stack.names)
    sums = {
        "label": focal,
        "box": per_layer(distance, pairs.layer, count),
        "giou": per_layer(giou, pairs.layer, count),
    }
    return {
        kind + name: value[i] / objects for kind, value in sums.items() for i, name in enumerate(stack.names)
    }


def token_terms(
    tokens: LayerOutput,
    usable: Tensor,
    targets: DetectionTargets,
    label_mask: Tensor,
    *,
    alpha: float,
    copies: int,
    costs: MatchCosts,
) -> dict[str, Tensor]:
    """One-to-many `_encoder` terms of *all* encoder tokens, normalised by the number of pairs.

    Args:
        tokens: predictions of the S encoder tokens.
        usable: (B, S) bool, tokens that may propose.
        targets: ground truth.
        label_mask: (B, N) bool.
        alpha: of the focal loss.
        copies: tokens per object.
        costs: of the matching.
    """
    stack = Stack.of({"_encoder": tokens})
    cost = cost_matrix(stack.logits, stack.boxes, targets, costs)
    pairs = match_one_to_many(cost, targets, usable, copies=copies)
    count = float(max(1, len(pairs)))
    return box_terms(stack, pairs, targets, label_mask, count, alpha=alpha, usable=usable)


def per_layer(values: Tensor, layer: Tensor, count: int) -> Tensor:
    """Sums of the values (P,) of each layer, by their layer index (P,), -> (count,)."""
    return values.new_zeros(count).index_add(0, layer, values)


def _focal(
    stack: Stack,
    pairs: Pairs,
    targets: DetectionTargets,
    label_mask: Tensor,
    alpha: float,
    usable: Tensor | None,
) -> Tensor:
    """Sum of the focal loss (gamma 2) of every layer, (L,): all as negatives, then corrected at the pairs."""
    allowed = label_mask[None, :, None]
    if usable is not None:
        allowed = allowed & usable[None, :, :, None]
    logits = stack.logits.masked_fill(~allowed, 0.0)
    total = (_negative(logits, alpha) * allowed).sum((1, 2, 3))
    fits = _fitting_labels(targets, logits.shape[-1])[pairs.image, pairs.target]  # (P, N)
    pair, label = fits.nonzero(as_tuple=True)
    layer = pairs.layer[pair]
    chosen = logits[layer, pairs.image[pair], pairs.query[pair], label]
    positive = alpha * (1 - chosen.sigmoid()).square() * F.softplus(-chosen)
    return total + per_layer(positive - _negative(chosen, alpha), layer, len(stack.names))


def _fitting_labels(targets: DetectionTargets, labels: int) -> Tensor:
    """(B, G, N) bool: which labels each object bears."""
    if targets.bears is not None:
        return targets.bears
    return F.one_hot(targets.labels, labels).bool()


def _negative(logits: Tensor, alpha: float) -> Tensor:
    return (1 - alpha) * logits.sigmoid().square() * F.softplus(logits)
