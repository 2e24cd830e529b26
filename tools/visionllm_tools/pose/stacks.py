"""The decoder stack: some layers refine boxes, the others boxes and keypoints in groups (UniPose, section 3).

Reference boxes stay in [0, 1]. What a layer reads carries no gradient; what the predictions start from does,
so that a layer also learns from the loss of the next one ("look forward twice", DINO).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from visionllm_tools.blocks.deformable import DeformableDecoderLayer, Pyramid
from visionllm_tools.blocks.groups import Groups
from visionllm_tools.blocks.positions import anchor_embedding
from visionllm_tools.blocks.two_stage import take
from visionllm_tools.pose.config import PoseConfig

_EPS = 1e-3
_NAMED_SIZES = 17
"""So many keypoint sizes are stored under a name of their own in the released layout."""


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Logits of (...) in [0, 1], bounded by about +-7, as DINO computes them."""
    x = x.clamp(0.0, 1.0)
    return x.clamp(min=_EPS).log() - (1 - x).clamp(min=_EPS).log()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every layer attends to.

    Attributes:
        pyramid: the encoded image.
        labels: (B, N, C) encoded object classes.
        label_mask: (B, 1, 1, N) bool, or None when all exist.
    """

    pyramid: Pyramid
    labels: Tensor
    label_mask: Tensor | None


@dataclass(frozen=True, kw_only=True)
class State:
    """Queries between two layers, with the references that the next layer refines.

    Attributes:
        queries: (B, T, C).
        reference: (B, T, 4) (cx, cy, w, h) in [0, 1], of boxes and, in the keypoint layers, of keypoints.
    """

    queries: Tensor
    reference: Tensor


@dataclass(frozen=True, kw_only=True)
class Seats:
    """Where things sit in the keypoint layers: D extra boxes, then G groups of a box and K points.

    Attributes:
        extra: D.
        groups: G.
        points: K.
    """

    extra: int
    groups: int
    points: int

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D + G (1 + K), C) -> boxes (B, D + G, C) and points (B, G, K, C)."""
        members = x[:, self.extra :].unflatten(1, (self.groups, 1 + self.points))
        return torch.cat([x[:, : self.extra], members[:, :, 0]], dim=1), members[:, :, 1:]

    def join(self, boxes: Tensor, points: Tensor) -> Tensor:
        """The inverse of `split`."""
        members = torch.cat([boxes[:, self.extra :, None], points], dim=2)
        return torch.cat([boxes[:, : self.extra], members.flatten(1, 2)], dim=1)


class PoseDecoder(nn.Module):
    """Everything of the released layout below `transformer.decoder.`."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        width, library = config.hidden_dim, config.library()
        self.box_layers = config.num_box_decoder_layers
        self.layers = nn.ModuleList(DeformableDecoderLayer(library) for _ in range(config.dec_layers))
        self.norm = nn.LayerNorm(width)
        self.ref_point_head = GroundingDinoMLPPredictionHead(2 * width, width, width, 2)
        named = min(_NAMED_SIZES, config.num_body_points)
        self.hw = nn.Embedding(named, 2)
        self.hw_append = nn.Embedding(config.num_body_points - named, 2)
        count = config.dec_layers - config.num_box_decoder_layers
        # One head of each kind, under the name of every layer.
        self.bbox_embed = nn.ModuleList([_head(width, 4)] * config.dec_layers)
        self.pose_embed = nn.ModuleList([_head(width, 2)] * (count + 1))
        self.pose_hw_embed = nn.ModuleList([_head(width, 2)] * count)

    def refine_boxes(
        self, state: State, context: Context, query_mask: Tensor | None
    ) -> Iterator[tuple[State, State]]:
        """Run the box layers.

        Args:
            state: queries (B, D + Q, C), extra ones first, and their boxes.
            context: image and labels.
            query_mask: (D + Q, D + Q) bool or None.

        Yields:
            After every layer its normalised states with the boxes that they refine, and the raw ones with the
            refined boxes.
        """
        for layer in self.layers[: self.box_layers]:
            raw = self._attend(layer, state, context, query_mask)
            shown = State(queries=self.norm(raw), reference=state.reference)
            boxes = self.bbox_embed[0](raw) + inverse_sigmoid(state.reference.detach())
            state = State(queries=raw, reference=boxes.sigmoid())
            yield shown, state

    def expand(self, state: State, chosen: Tensor, keypoints: Tensor, seats: Seats) -> State:
        """Give the chosen queries their keypoints.

        Args:
            state: queries (B, D + Q, C) after the last box layer.
            chosen: (B, G) indices of ordinary queries, not counting the extra ones.
            keypoints: (B, K, C) projected keypoint names.
            seats: the layout.

        Returns:
            D + G (1 + K) queries and references.
        """
        index = chosen + seats.extra
        boxes = take(state.reference, index)
        offset = self.pose_embed[-1](keypoints)[:, None]  # (B, 1, K, 2)
        centre = (inverse_sigmoid(boxes[:, :, None, :2]) + offset).sigmoid()
        size = torch.cat([self.hw.weight, self.hw_append.weight])[: seats.points].sigmoid()
        points = torch.cat([centre, size * boxes[:, :, None, 2:]], dim=-1)  # (B, G, K, 4)
        contents = keypoints[:, None].expand(-1, seats.groups, -1, -1)
        lead = slice(None, seats.extra)
        return State(
            queries=seats.join(
                torch.cat([state.queries[:, lead], take(state.queries, index)], dim=1), contents
            ),
            reference=seats.join(torch.cat([state.reference[:, lead], boxes], dim=1), points),
        )

    def refine_poses(
        self, state: State, context: Context, query_mask: Tensor | Groups, seats: Seats
    ) -> Iterator[State]:
        """Run the keypoint layers.

        Args:
            state: of `expand`.
            context: image and labels.
            query_mask: (B, 1, T, T) bool, or groups.
            seats: the layout.

        Yields:
            After every layer its normalised states with the references that they refine.
        """
        for layer in self.layers[self.box_layers :]:
            raw = self._attend(layer, state, context, query_mask)
            yield State(queries=self.norm(raw), reference=state.reference)
            boxes, points = seats.split(raw)
            old_boxes, old_points = seats.split(inverse_sigmoid(state.reference.detach()))
            moved = torch.cat([self.pose_embed[0](points), self.pose_hw_embed[0](points)], dim=-1)
            reference = seats.join(self.bbox_embed[0](boxes) + old_boxes, moved + old_points)
            state = State(queries=raw, reference=reference.sigmoid())

    def read_boxes(self, states: Tensor, reference: Tensor) -> Tensor:
        """Boxes (B, Q, 4) of normalised states (B, Q, C) that refine a reference (B, Q, 4)."""
        return (self.bbox_embed[0](states) + inverse_sigmoid(reference)).sigmoid()

    def read_points(self, states: Tensor, reference: Tensor) -> Tensor:
        """Points (B, G, K, 2) of normalised states (B, G, K, C) that refine a reference (B, G, K, 4)."""
        return (self.pose_embed[0](states) + inverse_sigmoid(reference[..., :2])).sigmoid()

    def _attend(
        self, layer: nn.Module, state: State, context: Context, query_mask: Tensor | Groups | None
    ) -> Tensor:
        assert isinstance(layer, DeformableDecoderLayer)
        ratios = context.pyramid.ratios.repeat(1, 1, 2)[:, None]  # (B, 1, L, 4)
        on_levels = state.reference.detach()[:, :, None] * ratios  # (B, T, L, 4)
        embedded = anchor_embedding(on_levels[:, :, 0], width=state.queries.shape[-1] // 2)
        return layer.decode(
            state.queries,
            positions=self.ref_point_head(embedded.to(state.queries.dtype)),
            boxes=on_levels,
            pyramid=context.pyramid,
            labels=context.labels,
            label_mask=context.label_mask,
            query_mask=query_mask,
        )


def _head(width: int, outputs: int) -> GroundingDinoMLPPredictionHead:
    return GroundingDinoMLPPredictionHead(width, width, outputs, 3)
