"""Multi-scale deformable attention and the encoder and decoder layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoDecoderLayer,
    GroundingDinoDeformableLayer,
    GroundingDinoMultiscaleDeformableAttention,
)

from visionllm_tools.blocks.attention import PackedAttention
from visionllm_tools.blocks.feedforward import feed_forward, learning, spans
from visionllm_tools.blocks.groups import Groups
from visionllm_tools.blocks.positions import Shapes


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """Image features of all levels as one sequence of S tokens, finest level first.

    Attributes:
        tokens: (B, S, C).
        shapes: height and width of each level.
        ratios: (B or 1, L, 2) share of each padded level (width, height) that is image.
        padding: (B, S) bool, True where a token is padding; None when nothing is padded.
    """

    tokens: Tensor
    shapes: Shapes
    ratios: Tensor
    padding: Tensor | None

    def with_tokens(self, tokens: Tensor) -> Pyramid:
        """The same geometry around other tokens (B, S, C)."""
        return Pyramid(tokens=tokens, shapes=self.shapes, ratios=self.ratios, padding=self.padding)

    def rows(self, index: Tensor) -> Pyramid:
        """Chosen images, possibly repeated, (K,) long."""
        return Pyramid(
            tokens=self.tokens[index],
            shapes=self.shapes,
            ratios=self.ratios if len(self.ratios) == 1 else self.ratios[index],
            padding=None if self.padding is None else self.padding[index],
        )

    def level(self, index: int) -> Tensor:
        """Tokens of one level as a map (B, C, H, W)."""
        start = sum(height * width for height, width in self.shapes[:index])
        height, width = self.shapes[index]
        return self.tokens[:, start : start + height * width].transpose(1, 2).unflatten(2, (height, width))


def sample_levels(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples from every level; zero outside of a map.

    Two equal ways: on a processor without gradient, gathered rows summed by one fused kernel (about five
    times faster); else `grid_sample`, whose gradient is cheaper.

    Args:
        values: (B, S, heads, C) of all levels.
        shapes: the pyramid.
        locations: (B, Q, heads, L, P, 2) as (x, y) in [0, 1] of each level.
        weights: (B, Q, heads, L, P).

    Returns:
        (B, Q, heads * C).
    """
    if learning(values, locations, weights) or values.is_cuda or values.dtype != torch.float32:
        return _sample_by_grid(values, shapes, locations, weights)
    return _sample_by_rows(values, shapes, locations, weights)


def _sample_by_grid(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, _ = values.shape
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)  # (B * heads, C, S)
    grids = (2 * locations - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B * heads, L, Q, P, 2)
    shares = weights.permute(0, 2, 3, 1, 4).flatten(0, 1)  # (B * heads, L, Q, P)
    sums, start = [], 0
    for level, (height, columns) in enumerate(shapes):
        flat = maps[:, :, start : start + height * columns].unflatten(2, (height, columns))
        found = F.grid_sample(flat, grids[:, level].to(flat.dtype), padding_mode="zeros", align_corners=False)
        sums.append((found * shares[:, None, level]).sum(-1))  # (B * heads, C, Q)
        start += height * columns
    total = torch.stack(sums).sum(0)
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


def _sample_by_rows(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Every sample is four rows of the flat values with bilinear shares; absent rows get share zero."""
    batch, count, heads, width = values.shape
    device = values.device
    sizes = torch.tensor([[columns, rows] for rows, columns in shapes], dtype=torch.int32, device=device)
    starts = (sizes[:, 0] * sizes[:, 1]).cumsum(0, dtype=torch.int32) - sizes[:, 0] * sizes[:, 1]
    columns, rows, starts = sizes[:, :1], sizes[:, 1:], starts[:, None]  # (L, 1) each
    x, y = (locations * sizes[:, None] - 0.5).unbind(-1)  # (B, Q, heads, L, P)
    left, right, left_share, right_share = _neighbours(x, columns)
    top, bottom, top_share, bottom_share = _neighbours(y, rows)
    top_share, bottom_share = top_share * weights, bottom_share * weights
    image = torch.arange(batch, dtype=torch.int32, device=device).view(-1, 1, 1, 1, 1) * count
    head = torch.arange(heads, dtype=torch.int32, device=device).view(-1, 1, 1)
    left, right = left * heads + head, right * heads + head
    top, bottom = (((y * columns + starts) + image) * heads for y in (top, bottom))
    index = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=-1)
    across = torch.stack([left_share, right_share], dim=-1)  # (B, Q, heads, L, P, 2)
    share = torch.cat([top_share[..., None] * across, bottom_share[..., None] * across], dim=-1)
    bags = locations.shape[:3].numel()
    table = values.reshape(-1, width)
    total = F.embedding_bag(index.view(bags, -1), table, mode="sum", per_sample_weights=share.view(bags, -1))
    return total.view(batch, -1, heads * width)


def _neighbours(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both whole neighbours of a coordinate, kept inside 0 .. size - 1, and their shares, zero outside."""
    low = place.floor()
    part = place - low
    first = low.to(torch.int32)
    second = first + 1
    inside = (first >= 0) & (first < size), (second >= 0) & (second < size)
    first, second = (torch.minimum(i.clamp(min=0), size - 1) for i in (first, second))
    return first, second, (1 - part) * inside[0], part * inside[1]


class DeformableAttention(GroundingDinoMultiscaleDeformableAttention):
    """The library's deformable attention with a leaner computation: no attention weights kept or returned."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes_list: Shapes = (),
        **unused: Any,
    ) -> tuple[Tensor, None]:
        """Attend to a few sampled points per query (Deformable DETR, section 4.1).

        Args:
            hidden_states: queries (B, Q, C).
            encoder_hidden_states: the pyramid's tokens (B, S, C).
            attention_mask: (B, S) bool, True where a token is image; None when nothing is padded.
            position_embeddings: added to the queries, broadcastable to (B, Q, C).
            reference_points: (B, Q, L, 2) points or (B, Q, L, 4) boxes, relative to each level.
            spatial_shapes_list: the pyramid.
            unused: arguments of the library's layers that carry nothing new.

        Returns:
            (B, Q, C) and None.
        """
        queries = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        padding = None if attention_mask is None else ~attention_mask
        values = self.project(encoder_hidden_states, padding)
        assert reference_points is not None
        return self.read(values, queries, reference_points, spatial_shapes_list), None

    def project(self, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """What can be read: (B, S, C) tokens -> (B, S, heads, C / heads), zero at `padding` (B, S)."""
        values = self.value_proj(tokens)
        if padding is not None:
            values = values.masked_fill(padding[..., None], 0.0)
        return values.unflatten(-1, (self.n_heads, -1))

    def read(self, values: Tensor, queries: Tensor, references: Tensor, shapes: Shapes) -> Tensor:
        """Sample `project`ed values for queries (B, Q, C) around references (B or 1, Q, L, 2 or 4)."""
        locations = self._locations(queries, references, shapes)
        weights = self.attention_weights(queries).unflatten(-1, (self.n_heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, (self.n_levels, self.n_points))
        return self.output_proj(sample_levels(values, shapes, locations, weights))

    def _locations(self, queries: Tensor, references: Tensor, shapes: Shapes) -> Tensor:
        """Sampling points (B, Q, heads, L, P, 2): offsets in cells, or in half boxes around boxes."""
        offsets = self.sampling_offsets(queries)
        offsets = offsets.unflatten(-1, (self.n_heads, self.n_levels, self.n_points, 2))
        centres = references[:, :, None, :, None, :2]
        if references.shape[-1] == 4:
            return centres + offsets * (references[:, :, None, :, None, 2:] * (0.5 / self.n_points))
        sizes = offsets.new_tensor([[width, height] for height, width in shapes])
        return centres + offsets / sizes[:, None, :]


class DeformableEncoderLayer(GroundingDinoDeformableLayer):
    """Deformable self-attention over the pyramid and a feed-forward network, both post-norm."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__(config)
        self.self_attn = DeformableAttention(config, config.encoder_attention_heads, config.encoder_n_points)

    def encode(self, pyramid: Pyramid, positions: Tensor, references: Tensor) -> Tensor:
        """Update the tokens.

        Args:
            pyramid: tokens (B, S, C) and their geometry.
            positions: (B, S, C) position and level embeddings.
            references: (B, S, L, 2).

        Returns:
            (B, S, C).
        """
        if not (learning(pyramid.tokens, *self.parameters()) or self.training):
            return self._encode_in_blocks(pyramid, positions, references)
        tokens, _ = self(
            pyramid.tokens,
            attention_mask=None if pyramid.padding is None else ~pyramid.padding,
            position_embeddings=positions,
            reference_points=references,
            spatial_shapes_list=pyramid.shapes,
        )
        return tokens

    def _encode_in_blocks(self, pyramid: Pyramid, positions: Tensor, references: Tensor) -> Tensor:
        """The same for inference: everything but the values is computed block by block, within the cache."""
        tokens, attention = pyramid.tokens, self.self_attn
        assert isinstance(attention, DeformableAttention)
        values = attention.project(tokens, pyramid.padding)
        encoded = torch.empty_like(tokens)
        for span in spans(tokens.shape[1], len(tokens)):
            own = tokens[:, span]
            read = attention.read(values, own + positions[:, span], references[:, span], pyramid.shapes)
            own = self.self_attn_layer_norm(read.add_(own))
            encoded[:, span] = feed_forward(
                own, self.fc1, self.activation_fn, self.fc2, self.final_layer_norm
            )
        return encoded


class DeformableDecoderLayer(GroundingDinoDecoderLayer):
    """Self-attention, attention to the labels, deformable attention to the image, feed-forward."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__(config)
        heads, width, dropout = config.decoder_attention_heads, config.d_model, config.attention_dropout
        packed = partial(PackedAttention, width=width, heads=heads, dropout=dropout)
        self.self_attn = packed()  # type: ignore[assignment]
        self.encoder_attn_text = packed()  # type: ignore[assignment]
        self.encoder_attn = DeformableAttention(config, heads, config.decoder_n_points)

    def decode(
        self,
        queries: Tensor,
        *,
        positions: Tensor,
        boxes: Tensor,
        pyramid: Pyramid,
        labels: Tensor,
        label_mask: Tensor | None,
        query_mask: Tensor | Groups | None,
    ) -> Tensor:
        """Update the queries.

        Args:
            queries: (B, Q, C).
            positions: (B, Q, C) embedded reference boxes.
            boxes: (B, Q, L, 4) reference boxes relative to each padded level.
            pyramid: encoded image.
            labels: (B, N, C) encoded labels.
            label_mask: (B, 1, 1, N) bool, True where a label exists; None when all exist.
            query_mask: broadcastable to (B, heads, Q, Q), True where a query may see another; or groups that
                see only themselves; None: all may.

        Returns:
            (B, Q, C).
        """
        (updated,) = self(
            queries,
            position_embeddings=positions,
            reference_points=boxes,
            spatial_shapes_list=pyramid.shapes,
            vision_encoder_hidden_states=pyramid.tokens,
            vision_encoder_attention_mask=None if pyramid.padding is None else ~pyramid.padding,
            text_encoder_hidden_states=labels,
            text_encoder_attention_mask=label_mask,
            self_attn_mask=query_mask,
        )
        return updated


def initialise_deformable(module: nn.Module) -> None:
    """Start every deformable attention in `module` as Deformable DETR: stars of points, equal weights."""
    for part in module.modules():
        if isinstance(part, GroundingDinoMultiscaleDeformableAttention):
            _initialise_attention(part)


@torch.no_grad()
def _initialise_attention(part: GroundingDinoMultiscaleDeformableAttention) -> None:
    angles = torch.arange(part.n_heads) * (2.0 * torch.pi / part.n_heads)
    star = torch.stack([angles.cos(), angles.sin()], dim=-1)
    star = star / star.abs().amax(-1, keepdim=True)  # onto the unit square, (heads, 2)
    reach = torch.arange(1, part.n_points + 1)[:, None]
    offsets = (star[:, None, None] * reach).expand(-1, part.n_levels, -1, -1)
    part.sampling_offsets.weight.zero_()
    part.sampling_offsets.bias.copy_(offsets.flatten())
    for layer in (part.attention_weights, part.value_proj, part.output_proj):
        layer.bias.zero_()
    part.attention_weights.weight.zero_()
    nn.init.xavier_uniform_(part.value_proj.weight)
    nn.init.xavier_uniform_(part.output_proj.weight)
