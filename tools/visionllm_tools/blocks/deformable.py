"""Multi-scale deformable attention and the encoder and decoder layers around it."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from visionllm_tools.blocks.feedforward import feed_forward, spans
from visionllm_tools.blocks.groups import Groups
from visionllm_tools.blocks.sampling import (
    GridMaps,
    RowTable,
    Shapes,
    TokenTable,
    in_cells,
    readable,
    reads_first,
)


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
    _tables: dict[int, TokenTable] = field(default_factory=dict, init=False, repr=False, compare=False)

    def table(self, points: int) -> TokenTable:
        """The tokens as a table, the same one for all layers that sample `points` of every level."""
        if points not in self._tables:
            self._tables[points] = TokenTable(self.tokens, self.padding, self.shapes, points=points)
        return self._tables[points]

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


class DeformableAttention(GroundingDinoMultiscaleDeformableAttention):
    """The library's deformable attention with a leaner computation: no attention weights kept or returned."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | TokenTable,
        attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes_list: Shapes = (),
        **unused: Any,
    ) -> tuple[Tensor, None]:
        """Attend to a few sampled points per query (Deformable DETR, section 4.1).

        Args:
            hidden_states: queries (B, Q, C).
            encoder_hidden_states: the pyramid's tokens (B, S, C), or a table of them.
            attention_mask: (B, S) bool, True where a token is image; None when nothing is padded.
            position_embeddings: added to the queries, broadcastable to (B, Q, C).
            reference_points: (B, Q, L, 2) points or (B, Q, L, 4) boxes, relative to each level.
            spatial_shapes_list: the pyramid.
            unused: arguments of the library's layers that carry nothing new.

        Returns:
            (B, Q, C) and None.
        """
        queries = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        assert reference_points is not None
        cells = in_cells(reference_points, spatial_shapes_list, points=self.n_points)
        if isinstance(encoder_hidden_states, TokenTable):
            return self.read(encoder_hidden_states, queries, cells), None
        padding = None if attention_mask is None else ~attention_mask
        return self.read(
            self.project(encoder_hidden_states, padding, spatial_shapes_list), queries, cells
        ), None

    def project(self, tokens: Tensor, padding: Tensor | None, shapes: Shapes) -> GridMaps | RowTable:
        """What can be read: (B, S, C) tokens, projected; zero where `padding` (B, S) is True."""
        values = self.value_proj(tokens).to(tokens.dtype)  # also where products are computed in bfloat16
        parted = values.unflatten(-1, (self.n_heads, -1))
        return readable(parted, shapes, points=self.n_points, padding=padding)

    def read(
        self,
        source: GridMaps | RowTable | TokenTable,
        queries: Tensor,
        cells: Tensor,
        packed: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sample for queries (B, Q, C) around points or boxes `in_cells`, (B or 1, Q, 2 or 4, L * P).

        Args:
            source: what is read.
            queries: who reads.
            cells: where.
            packed: of `packed`, for who calls often.
        """
        weight, bias = packed or self.packed()
        asked = F.linear(queries, weight, bias).unflatten(-1, (3, self.n_heads, -1))
        x, y = (self._places(asked[:, :, axis], cells, axis) for axis in (0, 1))
        weights = asked[:, :, 2].softmax(-1, dtype=torch.promote_types(asked.dtype, torch.float32))
        if isinstance(source, TokenTable):
            layer = self.value_proj
            read = source.sample(x, y, weights, projection=layer.weight, bias=layer.bias)
        else:
            read = source.sample(x, y, weights)
        return self.output_proj(read)

    def packed(self) -> tuple[Tensor, Tensor]:
        """Weight (3 * heads * L * P, C) and bias of one layer: columns, rows and weights of the samples."""
        places, shares = self.sampling_offsets, self.attention_weights
        weight = torch.cat([places.weight[0::2], places.weight[1::2], shares.weight])
        return weight, torch.cat([places.bias[0::2], places.bias[1::2], shares.bias])

    def _places(self, offsets: Tensor, cells: Tensor, axis: int) -> Tensor:
        """Columns (axis 0) or rows (1) to sample, (B, Q, heads, L * P), from offsets of that shape."""
        if cells.shape[2] == 4:  # around boxes, offsets are in half boxes
            offsets = offsets * (cells[:, :, 2 + axis, None] * (0.5 / self.n_points))
        return offsets + cells[:, :, axis, None]


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
        if not (torch.is_grad_enabled() or self.training or pyramid.tokens.is_cuda):
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
        """The same for inference: few images at a time, block by block, within the cache."""
        tokens, attention = pyramid.tokens, self.self_attn
        assert isinstance(attention, DeformableAttention)
        cells = in_cells(references, pyramid.shapes, points=attention.n_points)
        encoded, packed = torch.empty_like(tokens), attention.packed()
        for part in spans(len(tokens), tokens.shape[1], width=self.fc1.out_features):
            seen = tokens[part]
            padding = None if pyramid.padding is None else pyramid.padding[part]
            source = attention.project(seen, padding, pyramid.shapes)
            where = positions if len(positions) == 1 else positions[part]
            places = cells if len(cells) == 1 else cells[part]
            for span in spans(seen.shape[1], len(seen), width=self.fc1.out_features):
                own = seen[:, span]
                read = attention.read(source, own + where[:, span], places[:, span], packed)
                own = self.self_attn_layer_norm(read.add_(own))
                encoded[part, span] = feed_forward(
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
        attention = self.encoder_attn
        samples = attention.n_heads * attention.n_levels * attention.n_points
        first = reads_first(queries, pyramid.tokens, samples=samples)
        (updated,) = self(
            queries,
            position_embeddings=positions,
            reference_points=boxes,
            spatial_shapes_list=pyramid.shapes,
            vision_encoder_hidden_states=pyramid.table(attention.n_points) if first else pyramid.tokens,
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
