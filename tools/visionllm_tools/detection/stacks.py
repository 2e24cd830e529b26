"""The encoder and decoder stacks of the detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from visionllm_tools.blocks.deformable import DeformableDecoderLayer, Pyramid
from visionllm_tools.blocks.fusion import FusedEncoderLayer, between_labels
from visionllm_tools.blocks.positions import anchor_embedding, label_embedding, reference_points
from visionllm_tools.detection.config import DetectorConfig

_EPS = 1e-5


class Encoder(nn.Module):
    """The stack of fused layers."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusedEncoderLayer(config.library()) for _ in range(config.encoder_layers))
        self.mixed_heads = config.encoder_attention_heads // 2 if config.mixed_label_masks else None

    def forward(
        self, pyramid: Pyramid, positions: Tensor, labels: Tensor, label_mask: Tensor
    ) -> tuple[Pyramid, Tensor]:
        """Encode tokens (B, S, C) with positions (B, S, C) and labels (B, N, C) with their mask (B, N)."""
        references = reference_points(pyramid.shapes, pyramid.ratios)
        label_positions = label_embedding(label_mask, width=labels.shape[-1], dtype=labels.dtype)
        label_attention = between_labels(label_mask, mixed_heads=self.mixed_heads)
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
        return pyramid, labels


class Decoder(nn.Module):
    """The stack of decoder layers with iterative box refinement."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(config.library()) for _ in range(config.decoder_layers)
        )
        self.layer_norm = nn.LayerNorm(width)
        self.reference_points_head = GroundingDinoMLPPredictionHead(2 * width, width, width, 2)
        head = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        self.bbox_embed = nn.ModuleList([head] * config.decoder_layers)  # one head under every layer's name

    def forward(
        self,
        queries: Tensor,
        box_logits: Tensor,
        *,
        pyramid: Pyramid,
        labels: Tensor,
        label_mask: Tensor | None,
        query_mask: Tensor | None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Refine.

        Args:
            queries: (B, Q, C).
            box_logits: (B, Q, 4) reference boxes before the sigmoid; gradient stops here and between layers.
            pyramid: the encoded image.
            labels: (B, N, C) encoded labels.
            label_mask: (B, 1, 1, N) bool or None.
            query_mask: broadcastable to (B, heads, Q, Q) bool or None.

        Returns:
            For every layer its normalised states (B, Q, C) and boxes (B, Q, 4) in [0, 1].
        """
        ratios = pyramid.ratios.repeat(1, 1, 2)[:, None]  # (B, 1, L, 4)
        reference = box_logits.detach().sigmoid()
        width = queries.shape[-1]
        found = []
        for layer, head in zip(self.layers, self.bbox_embed, strict=True):
            on_levels = reference[:, :, None] * ratios  # (B, Q, L, 4)
            positions = self.reference_points_head(anchor_embedding(on_levels[:, :, 0], width=width // 2))
            assert isinstance(layer, DeformableDecoderLayer)
            queries = layer.decode(
                queries,
                positions=positions.to(queries.dtype),
                boxes=on_levels,
                pyramid=pyramid,
                labels=labels,
                label_mask=label_mask,
                query_mask=query_mask,
            )
            states, logits = self.layer_norm(queries), torch.logit(reference, eps=_EPS)
            found.append((states, (head(states) + logits).sigmoid()))
            # The released model refines from the raw states and reads the boxes off the normalised ones.
            reference = (head(queries) + logits).sigmoid().detach()
        return found
