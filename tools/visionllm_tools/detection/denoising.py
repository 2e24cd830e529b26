"""Denoising queries (DN-DETR, DINO): noisy copies of the truth that the decoder learns to restore."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visionllm_tools.blocks.boxes import to_centres, to_corners
from visionllm_tools.detection.matcher import Pairs
from visionllm_tools.detection.outputs import ExtraQueries
from visionllm_tools.detection.targets import DetectionTargets

_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """How the copies are made; the defaults are the released training.

    Attributes:
        queries: copies in all (positive and negative count as two halves): groups = queries / most objects.
        flip: a copy's label is replaced by a random one with half this probability.
        noise: size of the box noise relative to half the box.
    """

    queries: int = 100
    flip: float = 0.5
    noise: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DenoisingNoise:
    """Random numbers behind the copies, for G objects at most and R groups of a positive and a negative half.

    Attributes:
        flips: (B, R, 2, G) in [0, 1).
        classes: (B, R, 2, G) long, replacement labels.
        signs: (B, R, 2, G, 4), -1 or 1.
        sizes: (B, R, 2, G, 4) in [0, 1).
    """

    flips: Tensor
    classes: Tensor
    signs: Tensor
    sizes: Tensor

    @classmethod
    def draw(cls, targets: DetectionTargets, label_mask: Tensor, groups: int) -> DenoisingNoise:
        """Fresh noise; replacement labels are uniform over each image's own labels."""
        batch, most = targets.labels.shape
        shape, device = (batch, groups, 2, most), targets.boxes.device
        labels = label_mask.sum(1).view(-1, 1, 1, 1)
        return cls(
            flips=torch.rand(shape, device=device),
            classes=(torch.rand(shape, device=device) * labels).long(),
            signs=torch.randint(0, 2, (*shape, 4), device=device) * 2.0 - 1.0,
            sizes=torch.rand((*shape, 4), device=device),
        )


@dataclass(frozen=True, kw_only=True)
class DenoisingPlan:
    """The extra queries of a batch and which object each restores.

    Attributes:
        queries: content, boxes and mask for the detector.
        groups: R.
        valid: (B, G) bool, the objects.
    """

    queries: ExtraQueries
    groups: int
    valid: Tensor

    def pairs(self, layers: int) -> Pairs:
        """Positive copies with their objects, for every one of `layers` layers."""
        most = self.valid.shape[1]
        image, group, target = self.valid[:, None].expand(-1, self.groups, -1).nonzero(as_tuple=True)
        query = group * 2 * most + target
        layer = torch.arange(layers, device=image.device).repeat_interleave(len(image))
        return Pairs(
            layer=layer, image=image.repeat(layers), query=query.repeat(layers), target=target.repeat(layers)
        )


def plan_denoising(
    targets: DetectionTargets,
    labels: Tensor,
    label_mask: Tensor,
    *,
    learned: int,
    config: DenoisingConfig,
    noise: DenoisingNoise | None = None,
) -> DenoisingPlan | None:
    """Make denoising queries; None for a batch without objects.

    Args:
        targets: ground truth, G objects per image at most.
        labels: (B, N, C) label features, before the encoder.
        label_mask: (B, N) bool.
        learned: number of the learned queries, for the mask between both kinds.
        config: numbers.
        noise: the draws; fresh ones by default.
    """
    most = targets.labels.shape[1]
    if most == 0:
        return None
    groups = max(1, config.queries // most)
    noise = noise or DenoisingNoise.draw(targets, label_mask, groups)
    shown = targets.labels[:, None, None].expand_as(noise.classes)
    shown = torch.where(noise.flips < config.flip * 0.5, noise.classes, shown)
    present = targets.valid[:, None, None, :, None]
    content = labels[torch.arange(len(labels), device=labels.device).view(-1, 1, 1, 1), shown] * present
    boxes = _logit(_shake(targets.boxes, noise, config.noise)) * present
    queries = ExtraQueries(
        content=content.flatten(1, 3),
        boxes=boxes.flatten(1, 3),
        mask=_separate(groups, 2 * most, learned, labels.device),
    )
    return DenoisingPlan(queries=queries, groups=groups, valid=targets.valid)


def _shake(boxes: Tensor, noise: DenoisingNoise, scale: float) -> Tensor:
    """Move every corner by up to half the box (positives) or a half to a whole one (negatives); in [0, 1]."""
    half = boxes[:, None, None, :, 2:] / 2
    sizes = noise.sizes.clone()
    sizes[:, :, 1] += 1.0
    corners = to_corners(boxes)[:, None, None] + noise.signs * sizes * half.repeat(1, 1, 1, 1, 2) * scale
    return to_centres(corners.clamp(0.0, 1.0))


def _logit(x: Tensor) -> Tensor:
    """Inverse sigmoid, bounded by log(1 / eps) on both sides."""
    x = x.clamp(0.0, 1.0)  # noise may turn a box inside out
    return torch.log(x.clamp(min=_EPS) / (1 - x).clamp(min=_EPS))


def _separate(groups: int, size: int, learned: int, device: torch.device) -> Tensor:
    """(D + Q, D + Q) bool: groups see themselves and the learned queries; those see only one another."""
    group = torch.arange(groups, device=device).repeat_interleave(size)
    kind = torch.cat([group, torch.full((learned,), -1, device=device)])
    return (kind[:, None] == kind[None]) | (kind[None] == -1)
