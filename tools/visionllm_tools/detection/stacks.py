"""The decoder stack of the detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from visionllm_tools.blocks.deformable import DeformableDecoderLayer, Pyramid
from visionllm_tools.blocks.positions import anchor_embedding
from visionllm_tools.detection.config import DetectorConfig

_EPS = 1e-5


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
            embedded = anchor_embedding(on_levels[:, :, 0], width=width // 2)
            positions = self.reference_points_head(embedded.to(queries.dtype))
            assert isinstance(layer, DeformableDecoderLayer)
            queries = layer.decode(
                queries,
                positions=positions,
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
