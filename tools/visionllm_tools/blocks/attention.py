"""Multi-head attention with the packed weights of the released checkpoints, computed by fused kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionllm_tools.blocks.groups import Groups


class PackedAttention(nn.Module):
    """Attention whose query, key and value projections share `in_proj_weight`, thirds in this order.

    It takes the place of the library's `GroundingDinoMultiheadAttention` (three separate matrices) inside the
    library's layers, so it answers the same call and returns the pair that they unpack; attention weights are
    never materialised, hence the second element is None.

    Args:
        width: channels of queries, keys and values.
        heads: attention heads; must divide `width`.
        dropout: probability on the attention weights, in training only.
    """

    def __init__(self, *, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier weights and zero biases, as `torch.nn.MultiheadAttention` starts."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        attention_mask: Tensor | Groups | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend.

        Args:
            queries: (B, Q, C).
            keys: (B, K, C).
            values: (B, K, C).
            attention_mask: broadcastable to (B, heads, Q, K); bool, True: may attend; or added to the scores.
                Groups of queries, in self-attention, instead of a large and mostly empty mask.
            output_attentions: accepted for the library's layers; weights are never returned.

        Returns:
            (B, Q, C) and None.
        """
        query, key, value = (self._split(x) for x in self._project(queries, keys, values))
        dropout = self.dropout if self.training else 0.0
        if isinstance(attention_mask, Groups):
            mixed = attention_mask.attend(query, key, value, dropout=dropout)
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, dropout_p=dropout
            )  # (B, heads, Q, C / heads)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def _project(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if queries is keys:  # one matrix product for both
            query, key = self._third(queries, 0, 2).chunk(2, dim=-1)
            return query, key, self._third(values, 2, 3)
        if keys is values:
            key, value = self._third(keys, 1, 3).chunk(2, dim=-1)
            return self._third(queries, 0, 1), key, value
        return self._third(queries, 0, 1), self._third(keys, 1, 2), self._third(values, 2, 3)

    def _third(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Project by thirds start .. stop - 1 of the packed matrix."""
        width = self.in_proj_weight.shape[1]
        rows = slice(start * width, stop * width)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, C / heads)
