"""Assignment of ground truth to queries: one-to-one (Hungarian) and one-to-many (best few)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from visionllm_tools.blocks.boxes import generalised_iou, to_corners
from visionllm_tools.detection.targets import DetectionTargets

_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class MatchCosts:
    """Weights of the matching cost, as released: focal class, L1, GIoU."""

    label: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """P matched (layer, image, query, object) quadruples, ordered by layer, image, query; each (P,) long."""

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.layer)


@torch.no_grad()
def cost_matrix(logits: Tensor, boxes: Tensor, targets: DetectionTargets, costs: MatchCosts) -> Tensor:
    """Cost of assigning every object to every query, all layers at once.

    Args:
        logits: (L, B, K, N).
        boxes: (L, B, K, 4) (cx, cy, w, h).
        targets: G objects per image at most.
        costs: weights.

    Returns:
        (L, B, K, G); columns of absent objects hold numbers without meaning.
    """
    layers, _, queries, _ = logits.shape
    index = targets.labels[None, :, None].expand(layers, -1, queries, -1)
    chosen = logits.gather(3, index).float()  # (L, B, K, G)
    present = chosen.sigmoid()
    # Bounded as released, so that beyond saturation the boxes decide.
    positive = costs.alpha * (1 - present).pow(costs.gamma) * -(present + _EPS).log()
    negative = (1 - costs.alpha) * present.pow(costs.gamma) * -(1 - present + _EPS).log()
    found, truth = boxes[:, :, :, None].float(), targets.boxes[None, :, None]
    distance = (found - truth).abs().sum(-1)
    giou = generalised_iou(to_corners(found), to_corners(truth))
    return costs.label * (positive - negative) + costs.box * distance - costs.giou * giou


def match_one_to_one(cost: Tensor, counts: list[int]) -> Pairs:
    """Cheapest assignment of every object to its own query (scipy), for every layer and image.

    Args:
        cost: (L, B, K, G).
        counts: objects of every image.
    """
    table = np.nan_to_num(cost.cpu().numpy(), nan=1e6, posinf=1e6, neginf=-1e6)
    found: list[np.ndarray] = []
    for layer in range(cost.shape[0]):
        for image, count in enumerate(counts):
            query, target = linear_sum_assignment(table[layer, image, :, :count])
            place = np.broadcast_to([[layer], [image]], (2, len(query)))
            found.append(np.concatenate([place, query[None], target[None]]))
    return _pairs(np.concatenate(found, axis=1), cost.device)


@torch.no_grad()
def match_one_to_many(cost: Tensor, targets: DetectionTargets, usable: Tensor, *, copies: int) -> Pairs:
    """The `copies` cheapest usable queries of every object; a query wanted twice goes to the cheaper object.

    Args:
        cost: (1, B, S, G).
        targets: the objects.
        usable: (B, S) bool.
        copies: queries per object.
    """
    if targets.labels.shape[1] == 0:
        nothing = targets.labels.new_zeros(0)
        return Pairs(layer=nothing, image=nothing, query=nothing, target=nothing)
    table = cost[0].masked_fill(~usable[..., None], torch.inf).transpose(1, 2)  # (B, G, S)
    best, query = table.topk(min(copies, table.shape[-1]), dim=-1, largest=False)  # (B, G, copies)
    wanted = torch.isfinite(best) & targets.valid[..., None]
    claims = torch.full_like(table, torch.inf).scatter(2, query, best.masked_fill(~wanted, torch.inf))
    owner = claims.argmin(1)  # (B, S)
    image, target, column = wanted.nonzero(as_tuple=True)
    chosen = query[image, target, column]
    kept = owner[image, chosen] == target
    image, target, chosen = image[kept], target[kept], chosen[kept]
    return Pairs(layer=torch.zeros_like(image), image=image, query=chosen, target=target)


def _pairs(table: np.ndarray, device: torch.device) -> Pairs:
    layer, image, query, target = torch.from_numpy(np.ascontiguousarray(table)).long().to(device)
    return Pairs(layer=layer, image=image, query=query, target=target)
