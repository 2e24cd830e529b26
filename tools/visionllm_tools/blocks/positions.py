"""Positions: sine embeddings of labels and anchors, reference points and proposals over a feature pyramid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visionllm_tools.blocks.sampling import Shapes


def sine(values: Tensor, *, width: int, temperature: float = 10000.0) -> Tensor:
    """Interleaved sine and cosine of every value, (...) -> (..., width)."""
    steps = torch.arange(width, dtype=torch.float32, device=values.device)
    rates = temperature ** (2 * torch.div(steps, 2, rounding_mode="floor") / width)
    angles = values[..., None] * (2 * math.pi) / rates
    pair = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1)
    return pair.flatten(-2).to(values.dtype)


def anchor_embedding(anchors: Tensor, *, width: int) -> Tensor:
    """Embed boxes (..., 4) = (cx, cy, w, h) in [0, 1] as (..., 4 * width), in DETR's order y, x, w, h."""
    return sine(anchors[..., [1, 0, 2, 3]], width=width).flatten(-2)


def label_embedding(mask: Tensor, *, width: int, dtype: torch.dtype) -> Tensor:
    """Embed the order of the labels; absent ones stand at position 0. (B, N) bool -> (B, N, width)."""
    order = torch.arange(mask.shape[1], device=mask.device)
    return sine((order * mask).float(), width=width).to(dtype)  # angles need all their digits


def valid_ratios(mask: Tensor) -> Tensor:
    """Share of the padded map that is image, (B, H, W) bool -> (B, 2) = (width ratio, height ratio)."""
    _, height, width = mask.shape
    across = mask[:, 0, :].sum(1, dtype=torch.float32) / width
    return torch.stack([across, mask[:, :, 0].sum(1, dtype=torch.float32) / height], dim=-1)


def cell_centres(height: int, width: int, *, like: Tensor) -> Tensor:
    """Cell centres of a grid in cells, (height * width, 2) = (x, y)."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    columns = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1)


def reference_points(shapes: Shapes, ratios: Tensor) -> Tensor:
    """Where each encoder token looks from, on every level.

    Args:
        shapes: the pyramid.
        ratios: (B, L, 2) valid ratios (width, height) of each level.

    Returns:
        (B, S, L, 2) as (x, y) relative to each padded level; S is the number of tokens of all levels.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        size = ratios.new_tensor([width, height])
        levels.append(cell_centres(height, width, like=ratios)[None] / (ratios[:, None, level] * size))
    points = torch.cat(levels, dim=1)  # (B, S, 2), relative to the image proper
    return points[:, :, None] * ratios[:, None]


def proposals(shapes: Shapes, valid: Tensor, *, size: float = 0.05) -> tuple[Tensor, Tensor]:
    """One box proposal per encoder token (Deformable DETR, two-stage).

    Args:
        shapes: the pyramid.
        valid: (B, S) bool, True where a token is image and not padding.
        size: width and height of a proposal on the finest level, relative to the image; doubles per level.

    Returns:
        Proposal logits (B, S, 4) as (cx, cy, w, h), infinite where unusable, and the usable tokens (B, S)
        bool: image, and no coordinate within 0.01 of the border.
    """
    levels, start = [], 0
    for level, (height, width) in enumerate(shapes):
        mask = valid[:, start : start + height * width].unflatten(1, (height, width))
        extent = torch.stack([mask[:, 0, :].sum(1), mask[:, :, 0].sum(1)], dim=-1)  # (B, 2)
        like = torch.empty((), dtype=torch.float32, device=valid.device)
        centres = cell_centres(height, width, like=like)[None] / extent[:, None]
        levels.append(torch.cat([centres, torch.full_like(centres, size * 2.0**level)], dim=-1))
        start += height * width
    boxes = torch.cat(levels, dim=1)
    usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1) & valid
    return torch.log(boxes / (1 - boxes)).masked_fill(~usable[..., None], math.inf), usable
