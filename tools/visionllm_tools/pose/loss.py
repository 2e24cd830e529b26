"""The pose estimator's training loss: the detector's terms for boxes, L1 and OKS for keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_tools.detection.box_loss import Stack, box_terms, per_layer, token_terms
from visionllm_tools.detection.denoising import DenoisingPlan
from visionllm_tools.detection.matcher import MatchCosts, Pairs, cost_matrix, match_one_to_one
from visionllm_tools.pose.outputs import PoseOutput
from visionllm_tools.pose.targets import PoseTargets

_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class PoseLossConfig:
    """Weights and options; the defaults are the released training.

    Attributes:
        label: weight of the focal loss.
        box: weight of the L1 loss of boxes.
        giou: weight of the GIoU loss.
        keypoint: weight of the L1 loss of keypoints.
        oks: weight of the OKS loss. The released configuration says 4, its training used 10.
        visible: weight of the visibility's cross-entropy, where there is a visibility head.
        alpha: focal alpha.
        one_to_many: 0: the chosen proposals are matched one to one, as released. k > 0: *all* encoder tokens
            learn, k per object (faster from scratch).
        costs: of the matching, as far as boxes go.
        keypoint_cost: matching weight of the keypoints' L1 distance.
        oks_cost: matching weight of the OKS.
    """

    label: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    keypoint: float = 10.0
    oks: float = 10.0
    visible: float = 1.0
    alpha: float = 0.25
    one_to_many: int = 0
    costs: MatchCosts = field(default_factory=MatchCosts)
    keypoint_cost: float = 10.0
    oks_cost: float = 4.0

    def weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms times their weights, which go by the word before a term's first underscore."""
        weights = {
            "label": self.label,
            "box": self.box,
            "giou": self.giou,
            "keypoint": self.keypoint,
            "oks": self.oks,
            "visible": self.visible,
        }
        return {name: weights[name.split("_")[0]] * term for name, term in terms.items()}


def pose_loss(
    output: PoseOutput,
    targets: PoseTargets,
    config: PoseLossConfig,
    *,
    denoising: DenoisingPlan | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch.

    Args:
        output: of the forward pass, in training mode if `config.one_to_many`; with `extra` predictions if
            `denoising` is given.
        targets: ground truth.
        config: weights and options.
        denoising: the plan that made the extra queries.

    Returns:
        The weighted sum and every unweighted term: `label`, `box`, `giou`, `keypoint`, `oks` (and `visible`)
        of the last layer, and the same with `_0`, `_1`, .. (earlier layers; those of boxes alone have no
        keypoint terms), `_encoder`, `_denoising`, `_denoising_0`, ..
    """
    objects = float(max(1, sum(targets.objects.counts)))
    terms = _box_layers(output, targets, config, objects)
    terms |= _pose_layers(output, targets, config, objects)
    if config.one_to_many:
        assert output.tokens is not None, "one_to_many needs the output of training mode"
        terms |= token_terms(
            output.tokens,
            output.usable,
            targets.objects,
            output.label_mask,
            alpha=config.alpha,
            copies=config.one_to_many,
            costs=config.costs,
        )
    if denoising is not None:
        names = [f"_denoising{name}" for name in _names(len(output.extra))]
        extra = Stack.of(dict(zip(names, output.extra, strict=True)))
        pairs, shared = denoising.pairs(len(names)), objects * denoising.groups
        terms |= box_terms(extra, pairs, targets.objects, output.label_mask, shared, alpha=config.alpha)
    return torch.stack(list(config.weighted(terms).values())).sum(), terms


def oks(squared: Tensor, placed: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """Object keypoint similarity (COCO), in [0, 1].

    Args:
        squared: (..., K) squared distances.
        placed: (..., K) bool, keypoints that count.
        areas: (...,) areas of the objects in the same units.
        sigmas: (..., K).

    Returns:
        (...,) mean over the keypoints that count; 0 without any.
    """
    spread = 2 * areas[..., None] * (2 * sigmas).square()
    similar = torch.exp(-squared / spread) * placed
    return similar.sum(-1) / (placed.sum(-1) + _EPS)


def _names(layers: int) -> list[str]:
    """Suffixes of the layers' terms: their number, and none for the last."""
    return [*(f"_{i}" for i in range(layers - 1)), ""]


def _box_layers(
    output: PoseOutput, targets: PoseTargets, config: PoseLossConfig, objects: float
) -> dict[str, Tensor]:
    """Terms of the layers on boxes alone and, if they are matched one to one, of the encoder's proposals."""
    layers = {f"_{i}": layer for i, layer in enumerate(output.boxes)}
    if not config.one_to_many:
        layers["_encoder"] = output.encoder
    stack = Stack.of(layers)
    cost = cost_matrix(stack.logits, stack.boxes, targets.objects, config.costs)
    pairs = match_one_to_one(cost, targets.objects.counts)
    return box_terms(stack, pairs, targets.objects, output.label_mask, objects, alpha=config.alpha)


def _pose_layers(
    output: PoseOutput, targets: PoseTargets, config: PoseLossConfig, objects: float
) -> dict[str, Tensor]:
    """Terms of the layers with keypoints."""
    names = _names(len(output.boxes) + len(output.poses))[len(output.boxes) :]
    stack = Stack.of(dict(zip(names, output.poses, strict=True)))
    points = torch.stack([layer.points for layer in output.keypoints])  # (L, B, Q, K, 2)
    cost = cost_matrix(stack.logits, stack.boxes, targets.objects, config.costs)
    pairs = match_one_to_one(cost + _keypoint_cost(points, targets, config), targets.objects.counts)
    terms = box_terms(stack, pairs, targets.objects, output.label_mask, objects, alpha=config.alpha)
    sums = _keypoint_sums(output, points, pairs, targets)
    return terms | {
        kind + name: value[i] / objects for kind, value in sums.items() for i, name in enumerate(names)
    }


@torch.no_grad()
def _keypoint_cost(points: Tensor, targets: PoseTargets, config: PoseLossConfig) -> Tensor:
    """Matching cost (L, B, Q, G) of points (L, B, Q, K, 2)."""
    offset = points[:, :, :, None].float() - targets.points[None, :, None]  # (L, B, Q, G, K, 2)
    placed = targets.placed[:, None]  # (B, 1, G, K)
    distance = (offset.abs().sum(-1) * placed).sum(-1)
    similar = oks(offset.square().sum(-1), placed, targets.areas[:, None], targets.sigmas[:, None, None])
    return config.keypoint_cost * distance + config.oks_cost * (1 - similar)


def _keypoint_sums(
    output: PoseOutput, points: Tensor, pairs: Pairs, targets: PoseTargets
) -> dict[str, Tensor]:
    """Sums over the matched objects of every keypoint layer, (L,) each."""
    count = len(points)
    truth = targets.points[pairs.image, pairs.target].to(points.dtype)  # (P, K, 2)
    placed = targets.placed[pairs.image, pairs.target]
    offset = points[pairs.layer, pairs.image, pairs.query] - truth
    areas = targets.areas[pairs.image, pairs.target]
    similar = oks(offset.square().sum(-1), placed, areas, targets.sigmas[pairs.image])
    sums = {
        "keypoint": per_layer((offset.abs().sum(-1) * placed).sum(-1), pairs.layer, count),
        "oks": per_layer(1 - similar.clamp(min=_EPS), pairs.layer, count),
    }
    seen = [layer.visible for layer in output.keypoints if layer.visible is not None]
    if seen:
        logits = torch.stack(seen)[pairs.layer, pairs.image, pairs.query]  # (P, K)
        wanted = targets.visible[pairs.image, pairs.target].to(logits.dtype)
        exists = output.keypoint_mask[pairs.image]
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * exists
        sums["visible"] = per_layer(entropy.sum(-1) / exists.sum(-1), pairs.layer, count)
    return sums
