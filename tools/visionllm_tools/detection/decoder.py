"""The detector: Grounding DINO without text backbone, with a mask head.

Built from the library's Grounding DINO parts (constructor injection, and subclasses in
`visionllm_tools.blocks`); the module tree spells the keys of the released checkpoints below `gdino.`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMLPPredictionHead,
    GroundingDinoSinePositionEmbedding,
)

from visionllm_sdk.errors import ConfigError
from visionllm_tools.blocks.deformable import Pyramid, initialise_deformable
from visionllm_tools.blocks.positions import proposals, valid_ratios
from visionllm_tools.detection.backbone import Backbone, shrink_mask
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.masks import NormConv, mask_logits, upsample_to
from visionllm_tools.detection.outputs import DetectorOutput, ExtraQueries, LayerOutput, View
from visionllm_tools.detection.stacks import Decoder, Encoder


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

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> View:
        """See (B, 3, H, W) pixels with their (B, H, W) mask: backbone, projections, positions."""
        features = self.backbone(pixels)
        inputs = [*features[1:], features[-1]]  # stride 4 is for masks only; stride 64 is made from stride 32
        maps: list[Tensor] = []
        for i, project in enumerate(self.input_proj_vision):
            maps.append(project(inputs[i] if i < len(inputs) else maps[-1]))
        padded = not bool(pixel_mask.all())
        # Without padding, positions and geometry are the same for all images.
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        masks = [shrink_mask(pixel_mask if padded else pixel_mask[:1], shape) for shape in shapes]
        positions = [
            self.position_embedding(x, mask).flatten(2).transpose(1, 2) + self.level_embed[level]
            for level, (x, mask) in enumerate(zip(maps, masks, strict=True))
        ]
        pyramid = Pyramid(
            tokens=torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1),
            shapes=shapes,
            ratios=torch.stack([valid_ratios(mask) for mask in masks], dim=1).to(maps[0].dtype),
            padding=~torch.cat([mask.flatten(1) for mask in masks], dim=1) if padded else None,
        )
        where = torch.cat(positions, dim=1).to(maps[0].dtype)
        return View(features=features, pyramid=pyramid, positions=where)

    def describe_masks(self, finest: Tensor, pyramid: Pyramid) -> Tensor:
        """Mask features (B, M, H / 4, W / 4) from the stride-4 map and the encoded stride-8 level."""
        lateral = self.lateral_convs[0](finest)
        fused = lateral + upsample_to(pyramid.level(0), lateral)
        return self.mask_features(self.output_convs[0](fused))

    def propose(self, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's proposals: states (B, S, C), box logits (B, S, 4) and usable tokens (B, S)."""
        count = pyramid.tokens.shape[1]
        everywhere = torch.ones(1, count, dtype=torch.bool, device=pyramid.tokens.device)
        valid = everywhere if pyramid.padding is None else ~pyramid.padding
        anchors, usable = proposals(pyramid.shapes, valid)
        objects = self.enc_output_norm(self.enc_output(pyramid.tokens.masked_fill(~usable[..., None], 0.0)))
        return objects, self.encoder_output_bbox_embed(objects) + anchors, usable.expand(len(objects), -1)


class Detector(nn.Module):
    """Finds the objects that labels name, with boxes and masks.

    Labels come as features, not as words: see `encode_labels`. One pass takes up to `config.max_text_len` of
    them; they influence one another, so results depend on the set and on its order.

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
            for parameter in head.layers[-1].parameters():  # type: ignore[index, union-attr]
                nn.init.zeros_(parameter)

    def encode_labels(self, states: Tensor) -> Tensor:
        """Super-link states (B, N, E, C_llm) -> label features (B, N, C): an MLP per query, then the mean."""
        return self.patch2query(states).mean(2)

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
        return self.detect(self.look(pixels, pixel_mask), labels, label_mask, extra=extra)

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> View:
        """The part of `forward` that needs no labels; several label sets may share it."""
        return self.model.look(pixels, pixel_mask)

    def detect(
        self, view: View, labels: Tensor, label_mask: Tensor, *, extra: ExtraQueries | None = None
    ) -> DetectorOutput:
        """The part of `forward` that does; see there."""
        self._check(labels)
        pyramid, labels = self.model.encoder(view.pyramid, view.positions, labels, label_mask)
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
                queries=self._content(*chosen.shape),
            ),
            tokens=tokens,
            usable=usable,
            labels=labels,
            label_mask=label_mask,
            mask_features=self.model.describe_masks(view.features[0], pyramid),
            features=view.features,
        )

    def masks(self, output: DetectorOutput, queries: Tensor) -> Tensor:
        """Mask logits of chosen queries of the last layer, (B, K) indices -> (B, K, H / 4, W / 4)."""
        states = _take(output.layers[-1].queries, queries)
        return mask_logits(self.mask_embed[0](states), output.mask_features)

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
