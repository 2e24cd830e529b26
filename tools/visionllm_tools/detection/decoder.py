"""The detector: Grounding DINO without text backbone, with a mask head.

Built from the library's Grounding DINO parts (constructor injection, and subclasses in
`visionllm_tools.blocks`); the module tree spells the keys of the released checkpoints below `gdino.`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMLPPredictionHead,
    GroundingDinoSinePositionEmbedding,
)

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.precision import Quick
from visionllm_tools.blocks.deformable import Pyramid, initialise_deformable
from visionllm_tools.blocks.fusion import FusedEncoder
from visionllm_tools.blocks.pyramid import View, lay_out, level_projections
from visionllm_tools.blocks.two_stage import best_tokens, label_logits, propose, take
from visionllm_tools.detection.backbone import Backbone
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.masks import NormConv, laid_out_like, mask_logits, upsample_to
from visionllm_tools.detection.outputs import DetectorOutput, ExtraQueries, LayerOutput, Predictions
from visionllm_tools.detection.stacks import Decoder


class DetectorModel(Quick):
    """Everything of the released layout below `gdino.model.`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.backbone = Backbone(config.backbone())
        channels = self.backbone.conv_encoder.channels
        projections = level_projections(channels[1:], width=width, levels=config.num_feature_levels)
        self.input_proj_vision = nn.ModuleList(projections)
        self.position_embedding = GroundingDinoSinePositionEmbedding(config.library())
        self.level_embed = nn.Parameter(torch.empty(config.num_feature_levels, width).normal_())
        self.query_position_embeddings = nn.Embedding(config.num_queries, width)
        self.encoder = FusedEncoder(config.library(), mixed_labels=config.mixed_label_masks)
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
        with self.products(pixels):
            pyramid, positions = lay_out(
                features[1:],  # stride 4 is for masks only
                pixel_mask,
                projections=self.input_proj_vision,
                position_embedding=self.position_embedding,
                level_embed=self.level_embed,
            )
        return View(features=features, pyramid=pyramid, positions=positions)

    def eyes(self) -> tuple[nn.Module | Tensor, ...]:
        """All weights that `look` depends on."""
        return self.backbone, self.input_proj_vision, self.level_embed

    def describe_masks(self, finest: Tensor, encoded: Tensor) -> Tensor:
        """Mask features (B, M, H / 4, W / 4) from the stride-4 map and the encoded stride-8 level."""
        with self.backbone.conv_encoder.precision(finest) as shaped:
            lateral = self.lateral_convs[0](shaped)
            fused = lateral + upsample_to(laid_out_like(encoded, lateral), lateral)
            described: Tensor = self.mask_features(self.output_convs[0](fused))
        return described.to(finest.dtype)

    def propose(self, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, S, C) of the tokens, their anchors as box logits, and usable tokens."""
        return propose(pyramid, project=self.enc_output, normalise=self.enc_output_norm)


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

    def eyes(self) -> tuple[nn.Module | Tensor, ...]:
        """All weights that `look` depends on."""
        return self.model.eyes()

    def detect(
        self, view: View, labels: Tensor, label_mask: Tensor, *, extra: ExtraQueries | None = None
    ) -> DetectorOutput:
        """The part of `forward` that does; see there."""
        found = self.predict(view, labels, label_mask, extra=extra)
        described = self.model.describe_masks(view.features[0], found.pyramid.level(0))
        return DetectorOutput(**vars(found), mask_features=described)

    def predict(
        self, view: View, labels: Tensor, label_mask: Tensor, *, extra: ExtraQueries | None = None
    ) -> Predictions:
        """`detect` without the features of masks, which cost as much as all the rest that needs labels."""
        self._check(labels)
        pyramid, labels = self.model.encoder(view.pyramid, view.positions, labels, label_mask)
        objects, anchors, usable = self.model.propose(pyramid)
        scores = self._classify(objects, labels, label_mask)
        chosen = self._choose(scores, usable)
        head = self.model.encoder_output_bbox_embed
        box_logits = head(take(objects, chosen)) + take(anchors, chosen)
        layers, side = self._decode(box_logits, pyramid, labels, label_mask, extra)
        everywhere = None
        if self.training:
            boxes = (head(objects) + anchors).sigmoid()
            everywhere = LayerOutput(logits=scores, boxes=boxes, queries=objects)
        return Predictions(
            layers=layers,
            extra=side,
            encoder=LayerOutput(
                logits=take(scores, chosen),
                boxes=box_logits.sigmoid(),
                queries=self._content(*chosen.shape),
            ),
            tokens=everywhere,
            usable=usable,
            labels=labels,
            label_mask=label_mask,
            pyramid=pyramid,
            features=view.features,
        )

    def masks(self, output: DetectorOutput, queries: Tensor) -> Tensor:
        """Mask logits of chosen queries of the last layer, (B, K) indices -> (B, K, H / 4, W / 4)."""
        states = take(output.layers[-1].queries, queries)
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
        allowed = usable if self.config.usable_only else None
        return best_tokens(logits, self.config.num_queries, allowed=allowed)

    def _content(self, batch: int, count: int) -> Tensor:
        """Learned content queries (B, Q, C); fewer than configured when the image has fewer tokens."""
        return self.model.query_position_embeddings.weight[:count].expand(batch, -1, -1)

    def _classify(self, states: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
        """Dot products with the encoded labels, (B, K, N)."""
        config = self.config
        return label_logits(states, labels, label_mask, scale=config.logit_scale, bias=config.logit_bias)

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
