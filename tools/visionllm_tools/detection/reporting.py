"""From what was found to typed results: masks from their own look, boxes that fit them, no copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from visionllm_sdk.results import Box, Detection, Mask
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.found import Found
from visionllm_tools.detection.postprocess import (
    Candidates,
    binary_masks,
    keep_near_boxes,
    label_shares,
    resized,
    sharper,
)
from visionllm_tools.detection.prepare import Size

_MASKS = 100
"""Masks of the image's size that are held at once, before each is packed."""


def detections_of(
    decoder: Detector, found: Sequence[Found], labels: Sequence[str], original: Size, *, masks: bool
) -> tuple[Detection, ...]:
    """The kept detections of all groups of labels, best first.

    Args:
        decoder: what found them.
        found: the groups, with mask features where masks are wanted or boxes follow them.
        labels: of the request.
        original: height and width of the image as given.
        masks: whether detections carry them.
    """
    kept = [one for part in found for one in _described(decoder, part, labels, original)]
    ranked = (one for _, one in sorted(kept, key=lambda pair: -pair[0]))
    return tuple(ranked) if masks else tuple(one.model_copy(update={"mask": None}) for one in ranked)


def evidence(decoder: Detector, part: Found) -> Tensor:
    """Evidence of all looks for every label of a group at every pixel of the first look's input, (N, h, w).

    Args:
        decoder: what found it.
        part: with mask features.
    """
    config = decoder.config
    total, start = torch.zeros(()), 0
    for seen in part.seen:
        assert seen.features is not None, "a semantic map draws all masks"
        own = slice(start, start + len(seen.queries))
        shares = label_shares(
            part.logits[own].sigmoid(),
            decoder.mask_embed[0](seen.queries),
            seen.features,
            seen.size,
            boxes=None if config.mask_margin is None else part.boxes[own],
            margin=config.mask_margin or 0.0,
            gate=config.semantic_gate,
        )
        total = shares if start == 0 else total + resized(shares, part.seen[0].size)
        start = own.stop
    return total


def _described(
    decoder: Detector, part: Found, labels: Sequence[str], original: Size
) -> Iterator[tuple[float, Detection]]:
    candidates, agreement = part.kept, decoder.config.boxes_from_masks
    assert candidates is not None
    rows = zip(
        candidates.scores.tolist(),
        candidates.labels.tolist(),
        candidates.boxes.tolist(),
        _masks(decoder, part, candidates, original),
        strict=True,
    )
    told: list[Detection] = []
    for score, label, box, mask in rows:
        clipped = Box(*box).clipped(original[1], original[0])
        if agreement is not None and mask is not None:
            clipped = sharper(clipped, mask, agreement)
        name = labels[part.labels[label]]
        if not _is_copy(decoder.config, name, clipped, told):
            told.append(Detection(label=name, score=score, box=clipped, mask=mask))
            yield score, told[-1]


def _masks(decoder: Detector, part: Found, candidates: Candidates, original: Size) -> list[Mask | None]:
    """Masks of the kept detections, each from its own look; None where no features were made."""
    masks: list[Mask | None] = [None] * len(candidates.scores)
    margin = decoder.config.mask_margin
    for seen, places, queries in part.by_look(candidates.queries):
        if seen.features is None or not len(places):
            continue
        for some, own in zip(places.split(_MASKS), queries.split(_MASKS), strict=True):
            embeddings = decoder.mask_embed[0](seen.queries[own])
            found = binary_masks(embeddings, seen.features, seen.size, original)
            if margin is not None:
                keep_near_boxes(found, candidates.boxes[some], margin)
            for place, mask in zip(some.tolist(), found, strict=True):
                masks[place] = Mask.from_numpy(mask.numpy())
    return masks


def _is_copy(config: DetectorConfig, label: str, box: Box, better: Sequence[Detection]) -> bool:
    """Whether a box that was made to fit its mask turns out to be that of a better detection."""
    if config.boxes_from_masks is None or config.suppression is None:
        return False
    return any(one.label == label and one.box.iou(box) > config.suppression for one in better)
