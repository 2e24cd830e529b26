"""Swin blocks for inference: windows are gathered straight from the token sequence, a few at a time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.swin.modeling_swin import SwinBackbone, SwinLayer, SwinStage

from visionllm_tools.blocks.feedforward import ROWS, spans


class LeanSwinLayer(SwinLayer):
    """The library's Swin layer; without gradient it pads, shifts, partitions and merges by one index.

    The library copies the whole map for each of these steps and keeps the wide middle layer of the
    feed-forward network for all tokens; here a portion of windows or tokens stays within the cache.
    """

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        input_dimensions: tuple[int, int],
        always_partition: bool = False,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """See the library's layer; attention weights are not returned without gradient.

        Args:
            hidden_states: (B, H * W, C).
            input_dimensions: H and W.
            always_partition: whether a map smaller than a window is still attended to in whole windows.
            unused: further arguments of the library's layer.
        """
        if torch.is_grad_enabled() or self.training or not always_partition:
            updated, weights = super().forward(hidden_states, input_dimensions, always_partition, **unused)
            return updated, weights
        tokens = hidden_states + self._attend(self.layernorm_before(hidden_states), *input_dimensions)
        for span in spans(tokens.shape[1], len(tokens), width=4 * tokens.shape[2]):
            own = tokens[:, span]
            own += self.mlp(self.layernorm_after(own))
        return tokens, None

    def _attend(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Attention inside (shifted) windows, (B, H * W, C)."""
        windows, regions = window_order(height, width, self.window_size, self.shift_size, tokens.device)
        tokens = F.pad(tokens, (0, 0, 0, 1))  # one more token for all padding: zero, as in the library
        result = torch.empty_like(tokens)
        bias = self.attention.relative_position_bias()  # (1, heads, T, T)
        portion = max(1, 2 * ROWS // (windows.shape[1] * len(tokens)))
        for chosen, region in zip(windows.split(portion), regions.split(portion), strict=True):
            mask = bias
            if self.shift_size > 0:
                apart = (region[:, None] != region[:, :, None])[:, None]  # (windows, 1, T, T)
                mask = (bias - 100.0 * apart).repeat(len(tokens), 1, 1, 1)
            index = chosen.flatten()
            mixed = self._mix(tokens[:, index].view(-1, chosen.shape[1], tokens.shape[-1]), mask)
            result.index_copy_(1, index, mixed.view(len(tokens), -1, tokens.shape[-1]))
        return result[:, :-1]

    def _mix(self, x: Tensor, mask: Tensor) -> Tensor:
        """Self-attention of (windows, T, C) with an additive mask."""
        part = self.attention
        query, key, value = (
            project(x).unflatten(-1, (-1, part.head_dim)).transpose(1, 2)
            for project in (part.q_proj, part.k_proj, part.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=part.scaling)
        return part.o_proj(mixed.transpose(1, 2).flatten(2))


def window_order(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which tokens each window holds after padding to whole windows and a cyclic shift.

    Args:
        height: rows of the map.
        width: columns of the map.
        window: side of a window.
        shift: rows and columns by which windows are shifted.
        device: of the result.

    Returns:
        (windows, window ** 2) index into the H * W tokens, H * W for padding; and the region that each place
        belongs to, of equal shape: places of different regions were not neighbours before the shift.
    """
    axes = []
    for size in (height, width):
        whole = -(-size // window) * window
        place = torch.arange(whole, device=device)
        region = (place >= whole - window).long() + (place >= whole - shift).long()
        axes.append(((place + shift) % whole, region))
    (rows, row_region), (columns, column_region) = axes
    inside = (rows < height)[:, None] & (columns < width)
    index = torch.where(inside, rows[:, None] * width + columns, height * width)
    return _windows(index, window), _windows(row_region[:, None] * 3 + column_region, window)


def _windows(table: Tensor, side: int) -> Tensor:
    """(H, W) -> (windows, side ** 2)."""
    parts = table.unflatten(1, (-1, side)).unflatten(0, (-1, side))
    return parts.transpose(1, 2).flatten(2).flatten(0, 1)


def square(index: Tensor) -> Tensor:
    """The library's flat index of relative positions as released checkpoints store it, (T, T)."""
    side = math.isqrt(index.numel())
    return index.reshape(side, side)


def make_lean(backbone: SwinBackbone) -> None:
    """Rebuild every layer of a fresh backbone as a `LeanSwinLayer` around the same parameters."""
    for stage in backbone.swin.encoder.layers:
        assert isinstance(stage, SwinStage)
        stage.blocks = nn.ModuleList(_lean(layer, stage) for layer in stage.blocks)


def _lean(layer: nn.Module, stage: SwinStage) -> LeanSwinLayer:
    assert isinstance(layer, SwinLayer)
    lean = LeanSwinLayer(
        stage.config,
        dim=layer.layernorm_before.normalized_shape[0],
        input_resolution=layer.input_resolution,
        num_heads=layer.attention.num_attention_heads,
        drop_path_rate=getattr(layer.drop_path, "drop_prob", 0.0),
        shift_size=layer.shift_size,
    )
    lean.load_state_dict(layer.state_dict(), assign=True)
    return lean
