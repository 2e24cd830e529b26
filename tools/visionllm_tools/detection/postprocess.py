"""From the detector's output to what a user sees: scored boxes and masks in the pixels of the given image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.results import Box, Mask
from visionllm_tools.blocks.boxes import overlap, suppress, to_corners
from visionllm_tools.detection.masks import mask_logits
from visionllm_tools.detection.prepare import Size

_STRIDE = 4
_CHUNK = 16_000_000
"""Values that one step of mask processing may hold, to bound memory."""
_WEAK = 100
"""So many pairs are looked at however weak they are: as copies they count for what they are copies of."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Scored query-label pairs of one image, best first; each (K,) and boxes (K, 4).

    Attributes:
        scores: in [0, 1].
        labels: index into the image's labels.
        queries: index of the query that found it.
        boxes: (x1, y1, x2, y2) in pixels of the original image, not clipped.
    """

    scores: Tensor
    labels: Tensor
    queries: Tensor
    boxes: Tensor

    def take(self, kept: Tensor) -> Candidates:
        """Only some, by index or bool mask."""
        return Candidates(
            scores=self.scores[kept],
            labels=self.labels[kept],
            queries=self.queries[kept],
            boxes=self.boxes[kept],
        )


def select(logits: Tensor, boxes: Tensor, original: Size, *, limit: int) -> Candidates:
    """The best query-label pairs.

    Args:
        logits: (Q, N) label logits, -inf at absent labels.
        boxes: (Q, 4) (cx, cy, w, h) in [0, 1].
        original: height and width of the image as given, in pixels.
        limit: how many pairs at most.
    """
    scores = logits.float().sigmoid()
    best, place = scores.flatten().topk(min(limit, int(torch.isfinite(logits).sum())))
    query, label = place // logits.shape[1], place % logits.shape[1]
    scale = boxes.new_tensor([original[1], original[0]] * 2).float()
    return Candidates(
        scores=best, labels=label, queries=query, boxes=to_corners(boxes[query].float()) * scale
    )


def how_many(logits: Tensor, *, floor: float, least: int) -> int:
    """How many of the best query-label pairs can decide what is reported, without a limit of their number.

    Args:
        logits: (Q, N) label logits, -inf at absent labels.
        floor: lowest score that is reported.
        least: so many are reported whatever their score.
    """
    # What two queries on one object share is at most twice what the better of them says.
    near = int((logits.float().sigmoid() >= floor / 2).sum())
    return max(near, least, _WEAK)


def best_of_each(candidates: Candidates, count: int) -> Candidates:
    """The `count` best of every label, best first."""
    before = F.one_hot(candidates.labels).cumsum(0)  # (K, N)
    return candidates.take(before.gather(1, candidates.labels[:, None])[:, 0] <= count)


def drop_duplicates(
    candidates: Candidates, *, threshold: float, covered: float | None = None, shared: bool = False
) -> Candidates:
    """Non-maximum suppression within each label.

    Args:
        candidates: best first.
        threshold: IoU above which the worse of two boxes of one label is dropped.
        covered: share of the smaller of both above which it is dropped, too; None: it is not.
        shared: two queries on one object share what is said of it: what is kept gets the probability that it
            or the best of its copies is right.
    """
    span = candidates.boxes.abs().max() * 2 + 1 if len(candidates.boxes) else 0.0
    apart = candidates.boxes + (candidates.labels * span)[:, None]  # labels never overlap one another
    kept = suppress(apart, candidates.scores, threshold=threshold, covered=covered).sort().values
    chosen = candidates.take(kept)
    if not shared or len(kept) == len(apart):
        return chosen
    copies = overlap(apart[kept][:, None], apart[None])[0] > threshold  # (kept, all)
    copies.scatter_(1, kept[:, None], False)  # itself
    second = torch.where(copies, candidates.scores, 0.0).amax(1)
    scores = 1 - (1 - chosen.scores) * (1 - second)
    order = scores.argsort(descending=True, stable=True)
    return replace(chosen, scores=scores).take(order)


def full_size(logits: Tensor, size: Size, original: Size) -> Tensor:
    """Mask logits (K, h, w) at stride 4 of the padded input -> (K, *original), padding cropped, bilinear."""
    large = F.interpolate(logits[None], scale_factor=_STRIDE, mode="bilinear", align_corners=False)
    return resized(large[0, :, : size[0], : size[1]], original)


def resized(maps: Tensor, size: Size) -> Tensor:
    """Bilinear (K, h, w) -> (K, *size)."""
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def binary_masks(embeddings: Tensor, features: Tensor, size: Size, original: Size) -> Tensor:
    """Masks of the kept detections.

    Args:
        embeddings: (K, M) mask embeddings.
        features: (M, H / 4, W / 4) mask features.
        size: height and width of the resized image without padding.
        original: height and width of the image as given.

    Returns:
        (K, *original) bool, on the processor.
    """
    found = torch.zeros(len(embeddings), *original, dtype=torch.bool)
    step = max(1, _CHUNK // (original[0] * original[1] + features[0].numel() * _STRIDE**2))
    for start in range(0, len(embeddings), step):
        logits = mask_logits(embeddings[None, start : start + step], features[None])[0].float()
        found[start : start + step] = (full_size(logits, size, original) > 0).cpu()
    return found


def keep_near_boxes(maps: Tensor, boxes: Tensor, margin: float) -> None:
    """Empty maps, in place, where they are far from their boxes.

    Args:
        maps: (K, H, W) of any kind.
        boxes: (K, 4) (x1, y1, x2, y2) in pixels.
        margin: share of a box' width and height by which it is grown on every side. What is kept are pixels
            whose middle lies in the grown box.
    """
    start, end = boxes.float().cpu().split(2, -1)
    far = (end - start) * margin
    # Pixel n has its middle at n + 0.5.
    first = (start - far - 0.5).ceil().clamp(min=0).long().tolist()
    beyond = ((end + far - 0.5).floor() + 1).clamp(min=0).long().tolist()
    for one, (left, top), (right, bottom) in zip(maps, first, beyond, strict=True):
        one[:top] = 0
        one[bottom:] = 0
        one[top:bottom, :left] = 0
        one[top:bottom, right:] = 0


def label_shares(
    scores: Tensor,
    embeddings: Tensor,
    features: Tensor,
    size: Size,
    *,
    boxes: Tensor | None = None,
    margin: float = 0.0,
    gate: float = 0.0,
) -> Tensor:
    """Evidence for every label at every pixel of the input: sum over queries of label times mask probability.

    Args:
        scores: (Q, N) label probabilities.
        embeddings: (Q, M) mask embeddings.
        features: (M, H / 4, W / 4) mask features.
        size: height and width of the resized image without padding.
        boxes: (Q, 4) (cx, cy, w, h) in [0, 1]: a query tells nothing of what is far from its box.
        margin: how far that is, see `keep_near_boxes`.
        gate: lower probabilities count as none.

    Returns:
        (N, *size) float.
    """
    scores = scores.masked_fill(scores < gate, 0.0)
    total = features.new_zeros((scores.shape[1], *size), dtype=torch.float32)
    step = max(1, _CHUNK // (features[0].numel() * _STRIDE**2))
    for start in range(0, len(embeddings), step):
        part = slice(start, start + step)
        logits = mask_logits(embeddings[None, part], features[None])[0].float()
        shares = full_size(logits, size, size).sigmoid()
        if boxes is not None:
            scale = boxes.new_tensor([size[1], size[0]] * 2).float()
            keep_near_boxes(shares, to_corners(boxes[part].float()) * scale, margin)
        total += (scores[part].float().T @ shares.flatten(1)).unflatten(1, size)
    return total


def semantic_map(shares: Iterable[Tensor], original: Size, *, floor: float = 0.0) -> Tensor:
    """The label of every pixel; -1 where all evidence is below `floor`.

    One label at a time is brought to the size of the image: all labels of a large one would fill the memory.

    Args:
        shares: evidence for the labels of each group, (N, *size) float.
        original: height and width of the image as given.
        floor: least evidence of a labelled pixel.

    Returns:
        Position of the label among those of all groups, (*original) long.
    """
    best, label = torch.empty(0), torch.empty(0)
    for number, one in enumerate(chain.from_iterable(shares)):
        evidence = resized(one[None], original)[0]
        if number == 0:
            best = torch.full_like(evidence, -torch.inf)
            label = torch.zeros_like(evidence, dtype=torch.long)
        label.masked_fill_(evidence > best, number)  # of equals the first counts
        torch.maximum(best, evidence, out=best)
    return label.masked_fill(best < floor, -1)


def sharper(box: Box, mask: Mask, agreement: float) -> Box:
    """The tight box of the mask, unless it tells of something else than the box."""
    tight = mask.box
    return box if tight is None or tight.iou(box) < agreement else tight


def best_over_groups(
    parts: list[Candidates], limit: int | None, floor: float, least: int
) -> list[Candidates]:
    """Of the candidates of several groups those that are among the `limit` best, if any, and good enough."""
    scores = torch.cat([part.scores for part in parts])
    ranks = scores.argsort(descending=True, stable=True).argsort()
    kept = (scores >= floor) | (ranks < least)
    if limit is not None:
        kept &= ranks < limit
    return [
        part.take(flags)
        for part, flags in zip(parts, kept.split([len(part.scores) for part in parts]), strict=True)
    ]
