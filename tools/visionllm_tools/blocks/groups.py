"""Self-attention that stays inside groups of queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which queries see one another: D leading ones, then groups of S members each.

    Members see members of their own group only, so that the cost grows with the number of groups and not with
    its square. Leading queries see one another by a mask of their own, and all groups; no group sees them.

    Attributes:
        size: S.
        members: (B, S, S) bool, True where a member may see another; None: all may.
        lead: (D, D) bool, True where a leading query may see another; None: there are none.
    """

    size: int
    members: Tensor | None = None
    lead: Tensor | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float) -> Tensor:
        """Attention of projected queries, each argument and the result (B, heads, D + groups * S, C)."""
        count = 0 if self.lead is None else len(self.lead)
        grouped = self._inside(*(x[:, :, count:] for x in (query, key, value)), dropout=dropout)
        if self.lead is None:
            return grouped
        everywhere = torch.ones(
            count, key.shape[2] - count, dtype=torch.bool, device=self.lead.device
        )  # the leading queries see all groups
        mask = torch.cat([self.lead, everywhere], dim=1)
        leading = F.scaled_dot_product_attention(
            query[:, :, :count], key, value, attn_mask=mask, dropout_p=dropout
        )
        return torch.cat([leading, grouped], dim=2)

    def _inside(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float) -> Tensor:
        """Every group as an item of a larger batch."""
        batch, _, total, _ = query.shape
        groups = total // self.size
        query, key, value = (
            x.unflatten(2, (groups, self.size)).transpose(1, 2).flatten(0, 1) for x in (query, key, value)
        )  # (B * groups, heads, S, C)
        mask = None if self.members is None else self.members.repeat_interleave(groups, 0)[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return mixed.unflatten(0, (batch, groups)).transpose(1, 2).flatten(2, 3)
