"""Which queries of the keypoint layers see one another."""

from __future__ import annotations

import torch
from torch import Tensor

from visionllm_tools.blocks.groups import Groups


def inside_groups(keypoint_mask: Tensor, *, lead: Tensor | None = None) -> Groups:
    """Every group sees itself: the box and the existing keypoints one another, the absent ones likewise.

    Args:
        keypoint_mask: (B, K) bool, True where a keypoint exists.
        lead: (D, D) bool, which extra queries see one another, besides all groups; None: there are none.
    """
    size = 1 + keypoint_mask.shape[1]
    members = None if bool(keypoint_mask.all()) else _alike(keypoint_mask)
    return Groups(size=size, members=members, lead=lead)


def released_mask(keypoint_mask: Tensor, groups: int) -> Tensor:
    """The mask that the released code evaluates with.

    A group has 1 + K members. The released code first lets blocks of K (one too few) see themselves, and then
    corrects the places inside the true groups; what remains are views into the neighbouring group, growing
    from group to group, and a last stretch without a block: it sees everything, and the last block sees it.

    Args:
        keypoint_mask: (B, K) bool; K is all the places of a group, most of them absent.
        groups: number of groups.

    Returns:
        (B, 1, T, T) bool with T = groups * (1 + K), True where a query may see another.
    """
    count = keypoint_mask.shape[1]
    size = 1 + count
    place = torch.arange(groups * size, device=keypoint_mask.device)
    block, group = place // count, place // size
    free = (block[:, None] == block.clamp(max=groups - 1)[None]) | (block >= groups)[:, None]
    inside = group[:, None] == group[None]
    alike = _alike(keypoint_mask).repeat(1, groups, groups)
    return torch.where(inside, alike, free)[:, None]


def _alike(keypoint_mask: Tensor) -> Tensor:
    """(B, 1 + K, 1 + K): existing members see one another, and absent ones do."""
    exists = torch.cat([keypoint_mask.new_ones(len(keypoint_mask), 1), keypoint_mask], dim=1)
    return exists[:, :, None] == exists[:, None]
