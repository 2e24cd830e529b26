"""Image and label tokens that look at each other: the fused encoder layer of Grounding DINO."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
    GroundingDinoFusionLayer,
    GroundingDinoTextEnhancerLayer,
)

from visionllm_sdk.model.precision import Quick
from visionllm_tools.blocks.attention import PackedAttention
from visionllm_tools.blocks.deformable import DeformableEncoderLayer, Pyramid
from visionllm_tools.blocks.positions import label_embedding, reference_points


class FusionAttention(GroundingDinoBiMultiHeadAttention):
    """Attention in both directions from one score matrix: image to labels and labels to image.

    There are thousands of tokens and few labels, so the products are associated the other way round than in
    the library: the labels' keys and values are multiplied into the projection matrices, and the tokens are
    never projected to the wide embedding. The result is the same.
    """

    def forward(  # type: ignore[override]
        self,
        vision_features: Tensor,
        text_features: Tensor,
        vision_attention_mask: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
    ) -> tuple[tuple[Tensor, None], tuple[Tensor, None]]:
        """Attend both ways.

        Args:
            vision_features: (B, S, C).
            text_features: (B, N, C).
            vision_attention_mask: (B, S) bool, True where a token is padding.
            text_attention_mask: (B, N) bool, True where a label is padding.

        Returns:
            Updates (B, S, C) and (B, N, C), each with None in place of the weights.
        """
        scores = self._scores(vision_features, text_features)  # (B, S, heads, N)
        to_image = scores
        if vision_attention_mask is not None:
            to_image = scores.masked_fill(vision_attention_mask[:, :, None, None], float("-inf"))
        text = self._gather(vision_features, to_image.softmax(1))
        if text_attention_mask is not None:
            scores = scores.masked_fill(text_attention_mask[:, None, None, :], float("-inf"))
        return (self._spread(text_features, scores.softmax(-1)), None), (text, None)

    def _scores(self, vision: Tensor, text: Tensor) -> Tensor:
        """Query times key, (B, S, heads, N)."""
        keys = self._heads(self.text_proj(text)) * self.scale  # (B, heads, N, E / heads)
        readers = keys @ self.vision_proj.weight.unflatten(0, (self.num_heads, -1))  # (B, heads, N, C)
        offsets = keys @ self.vision_proj.bias.view(self.num_heads, -1, 1)  # (B, heads, N, 1)
        scores = torch.baddbmm(offsets.flatten(1)[:, None], vision, readers.flatten(1, 2).transpose(1, 2))
        return scores.unflatten(-1, (self.num_heads, -1))

    def _spread(self, text: Tensor, shares: Tensor) -> Tensor:
        """Labels' values to the tokens, by shares (B, S, heads, N); (B, S, C)."""
        values = self._heads(self.values_text_proj(text))
        columns = self.out_vision_proj.weight.unflatten(1, (self.num_heads, -1))  # (C, heads, E / heads)
        writers = values @ columns.permute(1, 2, 0)  # (B, heads, N, C)
        shares = self._drop(shares).flatten(2)
        return torch.baddbmm(self.out_vision_proj.bias, shares, writers.flatten(1, 2))

    def _gather(self, vision: Tensor, shares: Tensor) -> Tensor:
        """Tokens' values to the labels, by shares (B, S, heads, N); (B, N, C)."""
        shares = self._drop(shares)
        means = shares.flatten(2).transpose(1, 2) @ vision  # (B, heads * N, C)
        means = means.unflatten(1, (self.num_heads, -1))
        rows = self.values_vision_proj.weight.unflatten(0, (self.num_heads, -1))  # (heads, E / heads, C)
        values = means @ rows.transpose(1, 2)  # (B, heads, N, E / heads)
        mass = shares.sum(1)[..., None]  # one, unless shares were dropped
        values = values + mass * self.values_vision_proj.bias.view(self.num_heads, 1, -1)
        return self.out_text_proj(values.transpose(1, 2).flatten(2))

    def _drop(self, shares: Tensor) -> Tensor:
        return nn.functional.dropout(shares, p=self.dropout, training=self.training)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, E / heads)


class FusionLayer(GroundingDinoFusionLayer):
    """Pre-norm fusion with layer scale, around the lean attention."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__(config)
        self.attn = FusionAttention(config)


class LabelLayer(GroundingDinoTextEnhancerLayer):
    """Self-attention among the labels."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__(config)
        self.self_attn = PackedAttention(  # type: ignore[assignment]
            width=config.d_model, heads=config.encoder_attention_heads // 2, dropout=config.attention_dropout
        )


class FusedEncoderLayer(nn.Module):
    """Fusion, label self-attention, deformable self-attention: one encoder layer of Grounding DINO."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__()
        self.text_enhancer_layer = LabelLayer(config)
        self.fusion_layer = FusionLayer(config)
        self.deformable_layer = DeformableEncoderLayer(config)

    def forward(
        self,
        pyramid: Pyramid,
        labels: Tensor,
        *,
        positions: Tensor,
        references: Tensor,
        label_positions: Tensor,
        label_mask: Tensor,
        label_attention: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update image tokens and labels.

        Args:
            pyramid: image tokens (B, S, C).
            labels: (B, N, C).
            positions: (B, S, C) position and level embeddings of the tokens.
            references: (B, S, L, 2).
            label_positions: (B, N, C).
            label_mask: (B, N) bool, True where a label exists.
            label_attention: see `between_labels`.

        Returns:
            Tokens (B, S, C) and labels (B, N, C).
        """
        (tokens, _), (labels, _) = self.fusion_layer(
            vision_features=pyramid.tokens,
            text_features=labels,
            attention_mask_vision=pyramid.padding,
            attention_mask_text=~label_mask,
        )
        labels, _ = self.text_enhancer_layer(
            labels, attention_masks=label_attention, position_embeddings=label_positions
        )
        return self.deformable_layer.encode(pyramid.with_tokens(tokens), positions, references), labels


def between_labels(mask: Tensor, *, mixed_heads: int | None = None) -> Tensor:
    """Which labels see each other: all that exist; a padding row sees itself, so that softmax stays finite.

    Args:
        mask: (B, N) bool, True where a label exists.
        mixed_heads: the released code repeats the masks in another order than its attention reads them, so
            that head h of item b gets the mask of item (b * heads + h) mod B. Give the number of heads to
            reproduce this; it makes no difference for a single item or for equally many labels.

    Returns:
        (B, 1 or heads, N, N) bool.
    """
    own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    seen = mask[:, None, :] & mask[:, :, None] | own
    if mixed_heads is None:
        return seen[:, None]
    return seen.repeat(mixed_heads, 1, 1).unflatten(0, (len(mask), mixed_heads))


class FusedEncoder(Quick):
    """The stack of fused layers.

    Args:
        config: numbers of the layers.
        mixed_labels: reproduce the released mix-up of label masks within a batch; see `between_labels`.
    """

    def __init__(self, config: GroundingDinoConfig, *, mixed_labels: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusedEncoderLayer(config) for _ in range(config.encoder_layers))
        self.mixed_heads = config.encoder_attention_heads // 2 if mixed_labels else None

    def forward(
        self, pyramid: Pyramid, positions: Tensor, labels: Tensor, label_mask: Tensor
    ) -> tuple[Pyramid, Tensor]:
        """Encode tokens (B, S, C) with positions (B, S, C) and labels (B, N, C) with their mask (B, N)."""
        references = reference_points(pyramid.shapes, pyramid.ratios)
        label_positions = label_embedding(label_mask, width=labels.shape[-1], dtype=labels.dtype)
        label_attention = between_labels(label_mask, mixed_heads=self.mixed_heads)
        form = pyramid.tokens.dtype
        with self.products(pyramid.tokens):
            for layer in self.layers:
                tokens, labels = layer(
                    pyramid,
                    labels,
                    positions=positions,
                    references=references,
                    label_positions=label_positions,
                    label_mask=label_mask,
                    label_attention=label_attention,
                )
                pyramid = pyramid.with_tokens(tokens)
        return pyramid.with_tokens(pyramid.tokens.to(form)), labels.to(form)
