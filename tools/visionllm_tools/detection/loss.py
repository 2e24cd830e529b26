"""The detector's training loss: focal labels, L1 and GIoU boxes, cross-entropy and dice masks on points.

All decoder layers (and the encoder's proposals) are one stack: one matching cost, one loss, sums per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError
from visionllm_tools.detection.box_loss import Stack, box_terms, per_layer, token_terms
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingPlan
from visionllm_tools.detection.known import Known, strayed
from visionllm_tools.detection.masks import mask_logits
from visionllm_tools.detection.matcher import MatchCosts, Pairs, cost_matrix, match_one_to_one
from visionllm_tools.detection.outputs import DetectorOutput
from visionllm_tools.detection.targets import DetectionTargets

Random = Callable[[tuple[int, ...]], Tensor]
"""Draws uniform numbers in [0, 1) of a shape."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and options; the defaults are the released training.

    Attributes:
        label: weight of the focal loss.
        box: weight of the L1 loss.
        giou: weight of the GIoU loss.
        mask: weight of the masks' cross-entropy.
        dice: weight of the masks' dice loss.
        known: weight of what the detector said before, where that is known.
        alpha: focal alpha.
        points: points per mask.
        oversample: candidate points per kept one.
        important: share of points taken where the prediction is least certain.
        mask_layers: how many decoder layers, counted from the last, learn masks; None: all.
        mask_encoder: whether the encoder's proposals learn masks.
        mask_denoising: whether denoising queries learn masks.
        one_to_many: 0: the chosen proposals are matched one to one, as released. k > 0: *all* encoder tokens
            learn, k per object (faster from scratch); proposals then learn no masks.
        costs: of the matching.
    """

    label: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    known: float = 5.0
    alpha: float = 0.25
    points: int = 12544
    oversample: float = 3.0
    important: float = 0.75
    mask_layers: int | None = None
    mask_encoder: bool = True
    mask_denoising: bool = True
    one_to_many: int = 0
    costs: MatchCosts = field(default_factory=MatchCosts)

    def weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms times their weights, which go by the word before a term's first underscore."""
        weights = {
            "label": self.label,
            "box": self.box,
            "giou": self.giou,
            "mask": self.mask,
            "dice": self.dice,
            "known": self.known,
        }
        return {name: weights[name.split("_")[0]] * term for name, term in terms.items()}


def detection_loss(
    detector: Detector,
    output: DetectorOutput,
    targets: DetectionTargets,
    config: LossConfig,
    *,
    denoising: DenoisingPlan | None = None,
    known: Sequence[Known | None] = (),
    random: Random | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch.

    Args:
        detector: for its mask heads.
        output: of the forward pass; with `extra` predictions if `denoising` is given.
        targets: ground truth; masks are learnt if it has any.
        config: weights and options.
        denoising: the plan that made the extra queries.
        known: what was said of each image before learning, for those that are to stay as they were.
        random: source of the mask points; `torch.rand` by default.

    Returns:
        The weighted sum and every unweighted term: `label`, `box`, `giou`, `mask`, `dice` of the last layer,
        and the same with `_0`, `_1`, .. (earlier layers), `_encoder`, `_denoising`, `_denoising_0`, ..;
        `known` if anything is; each is a scalar, ().

    Raises:
        DataError: the one-to-many loss is on, and the detector was not in training mode.
    """
    draw = random or (lambda shape: torch.rand(shape, device=output.logits.device))
    names = ["", *(f"_{i}" for i in range(len(output.layers) - 1))]
    layers = dict(zip(names, [output.layers[-1], *output.layers[:-1]], strict=True))
    masked = _mask_layers(names, config)
    if not config.one_to_many:
        layers["_encoder"] = output.encoder
        masked += ["_encoder"] * config.mask_encoder
    stack = Stack.of(layers)
    pairs = match_one_to_one(cost_matrix(stack.logits, stack.boxes, targets, config.costs), targets.counts)
    objects = float(max(1, sum(targets.counts)))
    terms = box_terms(stack, pairs, targets, output.label_mask, objects, alpha=config.alpha)
    terms |= _mask_terms(detector, stack, pairs, targets, output, objects, masked, config, draw)
    if config.one_to_many:
        terms |= _one_to_many_terms(output, targets, config)
    if denoising is not None:
        terms |= _denoising_terms(detector, output, targets, denoising, names, objects, config, draw)
    if any(one is not None for one in known):
        terms["known"] = strayed(output, known)
    return torch.stack(list(config.weighted(terms).values())).sum(), terms


def _one_to_many_terms(
    output: DetectorOutput, targets: DetectionTargets, config: LossConfig
) -> dict[str, Tensor]:
    """`_encoder` terms of all encoder tokens."""
    if output.tokens is None:
        raise DataError(
            "the one-to-many loss needs the predictions of all encoder tokens",
            remedy="Put the detector into training mode before the forward pass.",
        )
    return token_terms(
        output.tokens,
        output.usable,
        targets,
        output.label_mask,
        alpha=config.alpha,
        copies=config.one_to_many,
        costs=config.costs,
    )


def _denoising_terms(
    detector: Detector,
    output: DetectorOutput,
    targets: DetectionTargets,
    plan: DenoisingPlan,
    names: list[str],
    objects: float,
    config: LossConfig,
    draw: Random,
) -> dict[str, Tensor]:
    """`_denoising..` terms of the noisy copies of the truth, whose objects are known without matching."""
    suffixes = [f"_denoising{name}" for name in names]
    extra = Stack.of(dict(zip(suffixes, [output.extra[-1], *output.extra[:-1]], strict=True)))
    pairs = plan.pairs(len(extra.names))
    shared = objects * plan.groups
    terms = box_terms(extra, pairs, targets, output.label_mask, shared, alpha=config.alpha)
    masked = [f"_denoising{name}" for name in _mask_layers(names, config)] * config.mask_denoising
    return terms | _mask_terms(detector, extra, pairs, targets, output, shared, masked, config, draw)


def _mask_layers(names: list[str], config: LossConfig) -> list[str]:
    """Suffixes of the decoder layers that learn masks: the last one (named "") and those before it."""
    earlier = names[1:]
    count = len(earlier) if config.mask_layers is None else max(0, config.mask_layers - 1)
    if config.mask_layers == 0:
        return []
    return ["", *earlier[len(earlier) - count :]]


def _mask_terms(
    detector: Detector,
    stack: Stack,
    pairs: Pairs,
    targets: DetectionTargets,
    output: DetectorOutput,
    objects: float,
    names: list[str],
    config: LossConfig,
    draw: Random,
) -> dict[str, Tensor]:
    """Cross-entropy and dice of the matched masks of the named layers."""
    if targets.masks is None or not names:
        return {}
    wanted = torch.tensor([name in names for name in stack.names], device=pairs.layer.device)
    kept = wanted[pairs.layer]
    pairs = Pairs(
        layer=pairs.layer[kept], image=pairs.image[kept], query=pairs.query[kept], target=pairs.target[kept]
    )
    maps = _matched_masks(detector, stack, pairs, output)  # (P, h, w)
    truth = targets.masks.flatten(0, 1)
    which = pairs.image * targets.masks.shape[1] + pairs.target
    with torch.no_grad():
        points = _sample_points(maps.detach(), config, draw)  # (P, n, 2)
        wanted_points = lookup(truth, which, points)
    found = lookup(maps, torch.arange(len(maps), device=maps.device), points)
    entropy = F.binary_cross_entropy_with_logits(found, wanted_points, reduction="none").mean(1)
    share = found.sigmoid()
    dice = 1 - (2 * (share * wanted_points).sum(1) + 1) / (share.sum(1) + wanted_points.sum(1) + 1)
    count = len(stack.names)
    sums = {"mask": per_layer(entropy, pairs.layer, count), "dice": per_layer(dice, pairs.layer, count)}
    return {
        kind + name: value[i] / objects
        for kind, value in sums.items()
        for i, name in enumerate(stack.names)
        if name in names
    }


def _matched_masks(detector: Detector, stack: Stack, pairs: Pairs, output: DetectorOutput) -> Tensor:
    """Mask logits of the matched queries only, (P, H / 4, W / 4)."""
    states = stack.queries[pairs.layer, pairs.image, pairs.query]  # (P, C)
    embeddings = detector.mask_embed[0](states)
    if "_encoder" in stack.names:
        from_encoder = (pairs.layer == stack.names.index("_encoder"))[:, None]
        embeddings = torch.where(from_encoder, detector.model.mask_embed(states), embeddings)
    batch = len(output.mask_features)
    counts = torch.bincount(pairs.image, minlength=batch)
    order = pairs.image.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    slot = torch.empty_like(order)
    slot[order] = torch.arange(len(order), device=order.device) - starts[pairs.image[order]]
    most = int(counts.max()) if len(pairs) else 0
    table = embeddings.new_zeros(batch, most, embeddings.shape[-1])
    table = table.index_put((pairs.image, slot), embeddings)
    return mask_logits(table, output.mask_features)[pairs.image, slot]


def _sample_points(maps: Tensor, config: LossConfig, draw: Random) -> Tensor:
    """Points (P, n, 2) = (x, y) in [0, 1]: most where |logit| is smallest among random ones (PointRend)."""
    count = len(maps)
    important = int(config.important * config.points)
    candidates = draw((count, int(config.points * config.oversample), 2))
    certainty = lookup(maps, torch.arange(count, device=maps.device), candidates).abs()
    chosen = certainty.topk(important, dim=1, largest=False).indices
    points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([points, draw((count, config.points - important, 2))], dim=1)


def lookup(maps: Tensor, which: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of chosen maps at points; zero beyond the border (`grid_sample` without copies).

    Args:
        maps: (M, H, W), any dtype.
        which: (P,) long, the map that each row of points reads.
        points: (P, n, 2) as (x, y) in [0, 1] of the whole map, cell centres at (i + 0.5) / size.

    Returns:
        (P, n) float.
    """
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1)
    place = points * points.new_tensor([width, height]) - 0.5
    low = place.floor()
    part = place - low
    left, top = low.long().unbind(-1)
    shares = torch.stack([1 - part, part])  # (2, P, n, 2): of the nearer and the farther neighbour
    total = points.new_zeros(points.shape[:2])
    for down in (0, 1):
        for right in (0, 1):
            x, y = left + right, top + down
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = (which[:, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
            total = total + flat[index] * (shares[right, ..., 0] * shares[down, ..., 1] * inside)
    return total
