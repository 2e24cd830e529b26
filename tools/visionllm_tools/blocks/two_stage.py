"""Two-stage decoding: encoder tokens propose boxes, and the best of them start the decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visionllm_tools.blocks.deformable import Pyramid
from visionllm_tools.blocks.positions import proposals

Layer = Callable[[Tensor], Tensor]


def propose(pyramid: Pyramid, *, project: Layer, normalise: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Every encoder token as a proposal; a box head moves its anchor.

    Args:
        pyramid: the encoded image.
        project: linear layer on the tokens.
        normalise: layer norm after it.

    Returns:
        States (B, S, C), anchors as box logits (B, S, 4) and usable tokens (B, S) bool.
    """
    count = pyramid.tokens.shape[1]
    everywhere = torch.ones(1, count, dtype=torch.bool, device=pyramid.tokens.device)
    valid = everywhere if pyramid.padding is None else ~pyramid.padding
    anchors, usable = proposals(pyramid.shapes, valid)
    objects = normalise(project(pyramid.tokens.masked_fill(~usable[..., None], 0.0)))
    batch = len(objects)
    return objects, anchors.expand(batch, -1, -1), usable.expand(batch, -1)


def label_logits(
    states: Tensor, labels: Tensor, label_mask: Tensor, *, scale: float = 1.0, bias: float = 0.0
) -> Tensor:
    """Dot products of states (B, K, C) with encoded labels (B, N, C), (B, K, N); -inf at absent labels."""
    logits = states @ labels.transpose(1, 2)
    if scale != 1.0 or bias != 0.0:
        logits = logits * scale + bias
    return logits.masked_fill(~label_mask[:, None], float("-inf"))


def best_tokens(logits: Tensor, count: int, *, allowed: Tensor | None = None) -> Tensor:
    """Indices (B, Q) of the `count` tokens that score best for any label, best first.

    Args:
        logits: (B, S, N).
        count: how many; fewer if there are fewer tokens.
        allowed: (B, S) bool, tokens that may be chosen; None: all.
    """
    best = logits.detach().amax(-1)
    if allowed is not None:
        best = best.masked_fill(~allowed, float("-inf"))
    return best.topk(min(count, best.shape[1]), dim=1).indices


def take(x: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, K, C) of (B, S, C) at (B, K) indices."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1]))
