"""Who sees whom in the keypoint layers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visionllm_tools.blocks.attention import PackedAttention
from visionllm_tools.blocks.groups import Groups
from visionllm_tools.pose.grouping import inside_groups, released_mask


def existing(count: int, places: int = 68) -> Tensor:
    return (torch.arange(places) < count)[None]


def dense(groups: Groups, count: int, lead: int) -> Tensor:
    """The same as one mask (B or 1, T, T)."""
    total = lead + count * groups.size
    batch = 1 if groups.members is None else len(groups.members)
    mask = torch.zeros(batch, total, total, dtype=torch.bool)
    mask[:, :lead] = True
    if groups.lead is not None:
        mask[:, :lead, :lead] = groups.lead
    for start in range(lead, total, groups.size):
        own = slice(start, start + groups.size)
        mask[:, own, own] = True if groups.members is None else groups.members
    return mask


def digest(visible: Tensor) -> str:
    """As recorded: packed bits of what is blocked."""
    return hashlib.sha256(np.packbits((~visible).numpy()).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def hashes(goldens: Path) -> dict[str, str]:
    return json.loads((goldens / "golden_unipose_masks.json").read_text())["hashes"]


@pytest.mark.parametrize(("image", "count"), [(0, 5), (1, 3)])
def test_released_mask_bit_by_bit(hashes: dict[str, str], image: int, count: int) -> None:
    assert digest(released_mask(existing(count), 50)[0, 0]) == hashes[f"eval.{image}"]


def test_released_mask_with_denoising_bit_by_bit(hashes: dict[str, str]) -> None:
    block = torch.arange(8) // 4
    groups = inside_groups(existing(5), lead=block[:, None] == block[None])
    assert digest(dense(groups, 50, 8)[0]) == hashes["denoising.0"]


def test_the_right_mask_differs_from_the_released_one() -> None:
    right = dense(inside_groups(existing(5)), 50, 0)
    assert not torch.equal(right, released_mask(existing(5), 50)[:, 0])


@given(
    groups=st.integers(1, 4),
    exists=st.lists(st.booleans(), min_size=1, max_size=4),
    lead=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_grouped_attention_equals_a_dense_mask(groups: int, exists: list[bool], lead: int, seed: int) -> None:
    torch.manual_seed(seed)
    attention = PackedAttention(width=8, heads=2)
    keypoint_mask = torch.tensor([exists, [True] * len(exists)])
    own = torch.eye(lead, dtype=torch.bool) if lead else None
    chosen = inside_groups(keypoint_mask, lead=own)
    mask = dense(chosen, groups, lead)
    queries = torch.randn(2, mask.shape[-1], 8)
    grouped, _ = attention(queries, queries, queries, attention_mask=chosen)
    whole, _ = attention(queries, queries, queries, attention_mask=mask[:, None])
    torch.testing.assert_close(grouped, whole, rtol=1e-4, atol=1e-5)


@given(exists=st.lists(st.booleans(), min_size=1, max_size=6))
def test_absent_keypoints_are_apart(exists: list[bool]) -> None:
    groups = inside_groups(torch.tensor([exists]))
    if all(exists):
        assert groups.members is None
        return
    assert groups.members is not None
    table = groups.members[0]
    present = torch.tensor([True, *exists])
    assert torch.equal(table, table.T)
    assert table.diagonal().all()
    assert not table[present][:, ~present].any()
    assert table[present][:, present].all()
