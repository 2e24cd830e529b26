"""The detector: Grounding DINO without text backbone, with a mask head.

Built from the library's Grounding DINO parts (constructor injection and subclasses in `visionllm_tools.blocks`);
the module tree spells the keys of the released checkpoints below `gdino.`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMLPPredictionHead,
    GroundingDinoSinePositionEmbedding,
)

from visionllm_sdk.errors import ConfigError
from visionllm_tools.blocks.deformable import DeformableDecoderLayer, Pyramid, initialise_deformable
from visionllm_tools.blocks.fusion import FusedEncoderLayer, between_labels
from visionllm_tools.blocks.positions import (
    anchor_embedding,
    label_embedding,
    proposals,
    reference_points,
    valid_ratios,
)
from visionllm_tools.detection.backbone import Backbone, shrink_mask
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.masks import NormConv, mask_logits, upsample_to

_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class ExtraQueries:
    """Queries that run beside the learned ones in training: noisy copies of the truth (denoising).

    Attributes:
        content: (B, D, C) embedded labels.
        boxes: (B, D, 4) reference box logits (cx, cy, w, h).
        mask: (D + Q, D + Q) bool, True where a query may see another; extra queries come first.
    """

    content: Tensor
    boxes: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """Predictions of one layer. K queries, N labels.

    Attributes:
        logits: (B, K, N) label logits, -inf at absent labels.
        boxes: (B, K, 4) (cx, cy, w, h) in [0, 1] of the image without padding.
        queries: (B, K, C) states from which masks are made.
    """

    logits: Tensor
    boxes: Tensor
    queries: Tensor

    def part(self, start: int, stop: int) -> LayerOutput:
        """Queries start .. stop - 1 only."""
        return LayerOutput(
            logits=self.logits[:, start:stop],
            boxes=self.boxes[:, start:stop],
            queries=self.queries[:, start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class DetectorOutput:
    """Everything a forward pass yields.

    Attributes:
        layers: predictions of the Q learned queries after every decoder layer, last one last.
        extra: predictions of the extra queries after every decoder layer; empty without them.
        encoder: the Q encoder proposals that became reference boxes. Their masks come from the content queries
            and `model.mask_embed`, as released.
        tokens: predictions of *all* S encoder tokens; its logits are -inf at unusable tokens' labels too.
        usable: (B, S) bool, tokens that are image and may propose.
        labels: (B, N, C) encoded labels.
        label_mask: (B, N) bool.
        mask_features: (B, M, H / 4, W / 4).
        features: backbone maps at strides 4, 8, 16, 32.
    """

    layers: Sequence[LayerOutput]
    extra: Sequence[LayerOutput] = field(default=())
    encoder: LayerOutput
    tokens: LayerOutput
    usable: Tensor
    labels: Tensor
    label_mask: Tensor
    mask_features: Tensor
    features: Sequence[Tensor]

    @property
    def logits(self) -> Tensor:
        """(B, Q, N) label logits of the last layer."""
        return self.layers[-1].logits

    @property
    def boxes(self) -> Tensor:
        """(B, Q, 4) boxes of the last layer, (cx, cy, w, h) in [0, 1] of the image without padding."""
        return self.layers[-1].boxes


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


class DetectorModel(nn.Module):
    """Everything of the released layout below `gdino.model.`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.backbone = Backbone(config.backbone())
        channels = self.backbone.conv_encoder.channels
        self.input_proj_vision = nn.ModuleList(_projections(channels[1:], config))
        self.position_embedding = GroundingDinoSinePositionEmbedding(config.library())
        self.level_embed = nn.Parameter(torch.empty(config.num_feature_levels, width).normal_())
        self.query_position_embeddings = nn.Embedding(config.num_queries, width)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.enc_output = nn.Linear(width, width)
        self.enc_output_norm = nn.LayerNorm(width)
        self.encoder_output_bbox_embed = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        self.mask_embed = GroundingDinoMLPPredictionHead(width, width, config.mask_dim, 3)
        self.lateral_convs = nn.ModuleList([NormConv(channels[0], width, kernel=1)])
        self.output_convs = nn.ModuleList([NormConv(width, width, kernel=3, activation=F.relu)])
        self.mask_features = nn.Conv2d(width, config.mask_dim, 1)

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> tuple[list[Tensor], Pyramid, Tensor]:
        """Backbone maps, the projected pyramid, and the positions (B, S, C) of its tokens."""
        features = self.backbone(pixels)
        maps = []
        for i, project in enumerate(self.input_proj_vision):
            maps.append(project(features[i + 1] if i + 1 < len(features) else maps[-1] if i > 3 else features[-1]))
        return features, *self._flatten(maps, pixel_mask)

    def _flatten(self, maps: list[Tensor], pixel_mask: Tensor) -> tuple[Pyramid, Tensor]:
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        masks = [shrink_mask(pixel_mask, shape) for shape in shapes]
        positions = [
            self.position_embedding(x, mask).flatten(2).transpose(1, 2) + self.level_embed[level]
            for level, (x, mask) in enumerate(zip(maps, masks, strict=True))
        ]
        padding = ~torch.cat([mask.flatten(1) for mask in masks], dim=1)
        pyramid = Pyramid(
            tokens=torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1),
            shapes=shapes,
            ratios=torch.stack([valid_ratios(mask) for mask in masks], dim=1).to(maps[0].dtype),
            padding=padding if bool(padding.any()) else None,
        )
        return pyramid, torch.cat(positions, dim=1).to(maps[0].dtype)

    def describe_masks(self, finest: Tensor, pyramid: Pyramid) -> Tensor:
        """Mask features (B, M, H / 4, W / 4) from the stride-4 map and the encoded stride-8 level."""
        lateral = self.lateral_convs[0](finest)
        fused = lateral + upsample_to(pyramid.level(0), lateral)
        return self.mask_features(self.output_convs[0](fused))  # type: ignore[no-any-return]

    def propose(self, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
        """Object states (B, S, C), box logits (B, S, 4) and usable tokens (B, S) of the encoder's proposals."""
        batch, count = pyramid.tokens.shape[:2]
        everywhere = torch.ones(batch, count, dtype=torch.bool, device=pyramid.tokens.device)
        valid = everywhere if pyramid.padding is None else ~pyramid.padding
        anchors, usable = proposals(pyramid.shapes, valid)
        objects = self.enc_output_norm(self.enc_output(pyramid.tokens.masked_fill(~usable[..., None], 0.0)))
        return objects, self.encoder_output_bbox_embed(objects) + anchors, usable


class Detector(nn.Module):
    """Finds the objects that labels name, with boxes and masks.

    Labels come as features, not as words: see `encode_labels`. One pass takes up to `config.max_text_len` labels;
    they influence one another, so results depend on the set and on its order.

    Args:
        config: numbers; `DetectorConfig.from_dict` reads the released form.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.model = DetectorModel(config)
        self.bbox_embed = self.model.decoder.bbox_embed
        head = GroundingDinoMLPPredictionHead(width, width, config.mask_dim, 3)
        self.mask_embed = nn.ModuleList([head] * config.decoder_layers)  # one head under every layer's name
        self.patch2query = GroundingDinoMLPPredictionHead(config.l_hidden_size, width, width, 3)
        self.initialise()

    def initialise(self) -> None:
        """Random start for training from scratch; the backbone keeps the library's own start."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and ".backbone." not in name:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.model.level_embed)
        nn.init.normal_(self.model.query_position_embeddings.weight)
        initialise_deformable(self)
        for head in (self.bbox_embed[0], self.model.encoder_output_bbox_embed):
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)

    def encode_labels(self, states: Tensor) -> Tensor:
        """Super-link states (B, N, E, C_llm) -> label features (B, N, C): an MLP per query, then the mean."""
        return self.patch2query(states).mean(2)  # type: ignore[no-any-return]

    def forward(
        self,
        pixels: Tensor,
        pixel_mask: Tensor,
        labels: Tensor,
        label_mask: Tensor,
        *,
        extra: ExtraQueries | None = None,
    ) -> DetectorOutput:
        """Detect.

        Args:
            pixels: (B, 3, H, W), ImageNet-normalised, padded with zeros at the right and bottom.
            pixel_mask: (B, H, W) bool, True where there is image.
            labels: (B, N, C) label features.
            label_mask: (B, N) bool, True where a label exists.
            extra: denoising queries, in training.

        Raises:
            ConfigError: more labels than `max_text_len`.
        """
        self._check(labels)
        features, pyramid, positions = self.model.look(pixels, pixel_mask)
        pyramid, labels = self.model.encoder(pyramid, positions, labels, label_mask)
        objects, anchors, usable = self.model.propose(pyramid)
        tokens = LayerOutput(
            logits=self._classify(objects, labels, label_mask), boxes=anchors.sigmoid(), queries=objects
        )
        chosen = self._choose(tokens.logits, usable)
        layers, side = self._decode(_take(anchors, chosen), pyramid, labels, label_mask, extra)
        return DetectorOutput(
            layers=layers,
            extra=side,
            encoder=LayerOutput(
                logits=_take(tokens.logits, chosen),
                boxes=_take(tokens.boxes, chosen),
                queries=self._content(len(pixels), chosen.shape[1]),
            ),
            tokens=tokens,
            usable=usable,
            labels=labels,
            label_mask=label_mask,
            mask_features=self.model.describe_masks(features[0], pyramid),
            features=features,
        )

    def masks(self, output: DetectorOutput, queries: Tensor) -> Tensor:
        """Mask logits of chosen queries of the last layer, (B, K) indices -> (B, K, H / 4, W / 4)."""
        return mask_logits(self.mask_embed[0](_take(output.layers[-1].queries, queries)), output.mask_features)

    def _check(self, labels: Tensor) -> None:
        limit = self.config.max_text_len
        if not 0 < labels.shape[1] <= limit:
            raise ConfigError(
                "the detector takes a limited number of labels in one pass",
                value=labels.shape[1],
                limit=f"1 to {limit}",
                remedy="Give the labels in groups; the detection tool does so by itself.",
            )

    def _choose(self, logits: Tensor, usable: Tensor) -> Tensor:
        """Tokens whose boxes the decoder starts from, (B, Q): those that score best for any label."""
        best = logits.detach().amax(-1)
        if self.config.usable_only:
            best = best.masked_fill(~usable, float("-inf"))
        return best.topk(min(self.config.num_queries, best.shape[1]), dim=1).indices

    def _content(self, batch: int, count: int) -> Tensor:
        """Learned content queries (B, Q, C); fewer than configured when the image has fewer tokens."""
        return self.model.query_position_embeddings.weight[:count].expand(batch, -1, -1)

    def _classify(self, states: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
        """Dot products with the encoded labels, (B, K, N)."""
        logits = states @ labels.transpose(1, 2)
        if self.config.logit_scale != 1.0 or self.config.logit_bias != 0.0:
            logits = logits * self.config.logit_scale + self.config.logit_bias
        return logits.masked_fill(~label_mask[:, None], float("-inf"))

    def _decode(
        self,
        box_logits: Tensor,
        pyramid: Pyramid,
        labels: Tensor,
        label_mask: Tensor,
        extra: ExtraQueries | None,
    ) -> tuple[list[LayerOutput], list[LayerOutput]]:
        """Predictions of the learned queries and of the extra ones after every layer."""
        queries = self._content(*box_logits.shape[:2])
        count = 0
        if extra is not None:
            count = extra.content.shape[1]
            queries = torch.cat([extra.content, queries], dim=1)
            box_logits = torch.cat([extra.boxes, box_logits], dim=1)
        found = self.model.decoder(
            queries,
            box_logits,
            pyramid=pyramid,
            labels=labels,
            label_mask=None if bool(label_mask.all()) else label_mask[:, None, None],
            query_mask=None if extra is None else extra.mask,
        )
        outputs = [
            LayerOutput(logits=self._classify(states, labels, label_mask), boxes=boxes, queries=states)
            for states, boxes in found
        ]
        total = queries.shape[1]
        side = [output.part(0, count) for output in outputs] if count else []
        return [output.part(count, total) for output in outputs], side


def _take(x: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, K, ...) of (B, S, ...) at (B, K) indices."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1]))


def _projections(channels: Sequence[int], config: DetectorConfig) -> list[nn.Sequential]:
    """1x1 convolutions to the common width, then 3x3 convolutions of stride 2 for coarser levels."""
    width, made, last = config.d_model, [], channels[-1]
    for count in channels:
        made.append(nn.Sequential(nn.Conv2d(count, width, 1), nn.GroupNorm(32, width)))
    for _ in range(config.num_feature_levels - len(channels)):
        coarser = nn.Conv2d(last, width, 3, stride=2, padding=1)
        made.append(nn.Sequential(coarser, nn.GroupNorm(32, width)))
        last = width
    return made
