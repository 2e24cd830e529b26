"""The pose estimator: UniPose (Yang et al. 2023) without its text encoder.

Built from the library's Grounding DINO layers; `visionllm_tools.pose.keys` maps the keys of the released
checkpoints below `unipose.` onto the module tree.
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
from visionllm_tools.blocks.backbone import LibraryBackbone
from visionllm_tools.blocks.deformable import initialise_deformable
from visionllm_tools.blocks.fusion import FusedEncoder
from visionllm_tools.blocks.groups import Groups
from visionllm_tools.blocks.pyramid import View, lay_out, level_projections
from visionllm_tools.blocks.two_stage import best_tokens, label_logits, propose, take
from visionllm_tools.detection.outputs import ExtraQueries, LayerOutput
from visionllm_tools.pose.config import PoseConfig
from visionllm_tools.pose.grouping import inside_groups, released_mask
from visionllm_tools.pose.outputs import KeypointOutput, PoseOutput
from visionllm_tools.pose.stacks import Context, PoseDecoder, Seats, State


class PoseTransformer(nn.Module):
    """Everything of the released layout below `transformer.`."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.level_embed = nn.Parameter(torch.empty(config.num_feature_levels, width).normal_())
        self.encoder = FusedEncoder(config.library(), mixed_labels=config.mixed_label_masks)
        self.decoder = PoseDecoder(config)
        self.tgt_embed = nn.Embedding(config.num_queries, width)
        self.enc_output = nn.Linear(width, width)
        self.enc_output_norm = nn.LayerNorm(width)
        self.enc_out_bbox_embed = GroundingDinoMLPPredictionHead(width, width, 4, 3)


class PoseEstimator(Quick):
    """Finds objects of given classes, and the keypoints that names ask for on each.

    Classes and names come as features, not as words: see `encode_labels` and `encode_keypoints`.

    Args:
        config: numbers; `PoseConfig.from_dict` reads the released form.
    """

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        backbone = LibraryBackbone(config.backbone_library(), strides=(8, 16, 32), reader="pose estimator")
        self.backbone = nn.ModuleList([backbone])
        self.is_swin = backbone.is_swin
        projections = level_projections(backbone.channels, width=width, levels=config.num_feature_levels)
        self.input_proj = nn.ModuleList(projections)
        self.position_embedding = GroundingDinoSinePositionEmbedding(config.library())
        self.transformer = PoseTransformer(config)
        # The heads stand a second time at the root of the released layout.
        self.bbox_embed = self.transformer.decoder.bbox_embed
        self.pose_embed = self.transformer.decoder.pose_embed
        self.pose_hw_embed = self.transformer.decoder.pose_hw_embed
        self.projection_llava = GroundingDinoMLPPredictionHead(config.l_hidden_size, width, width, 3)
        self.projection_kpt_llava = GroundingDinoMLPPredictionHead(config.l_hidden_size, width, width, 3)
        self.visibility_embed: nn.Module | None = None
        if config.keypoint_visibility:
            self.visibility_embed = GroundingDinoMLPPredictionHead(width, width, 1, 3)
        self.initialise()

    def initialise(self) -> None:
        """Random start for training from scratch; the backbone keeps the library's own start."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.startswith("backbone."):
                nn.init.xavier_uniform_(parameter)
        transformer = self.transformer
        nn.init.normal_(transformer.level_embed)
        nn.init.normal_(transformer.tgt_embed.weight)
        for size in (transformer.decoder.hw, transformer.decoder.hw_append):
            nn.init.constant_(size.weight, -2.0)  # an eighth of the object's box
        initialise_deformable(self)
        heads = (
            self.bbox_embed[0],
            self.pose_embed[0],
            self.pose_hw_embed[0],
            transformer.enc_out_bbox_embed,
        )
        for head in heads:
            for parameter in head.layers[-1].parameters():  # type: ignore[index, union-attr]
                nn.init.zeros_(parameter)

    def encode_labels(self, states: Tensor) -> Tensor:
        """Super-link states (B, N, E, C_llm) of object classes -> features (B, N, C): MLP, then the mean."""
        return self.projection_llava(states).mean(2)

    def encode_keypoints(self, states: Tensor) -> Tensor:
        """Super-link states (B, K, E, C_llm) of keypoint names -> features (B, K, C): MLP, then the mean."""
        return self.projection_kpt_llava(states).mean(2)

    def forward(
        self,
        pixels: Tensor,
        pixel_mask: Tensor,
        labels: Tensor,
        label_mask: Tensor,
        keypoints: Tensor,
        keypoint_mask: Tensor,
        *,
        extra: ExtraQueries | None = None,
    ) -> PoseOutput:
        """Estimate poses.

        Args:
            pixels: (B, 3, H, W), ImageNet-normalised, padded with zeros at the right and bottom.
            pixel_mask: (B, H, W) bool, True where there is image.
            labels: (B, N, C) features of the object classes.
            label_mask: (B, N) bool, True where a class exists.
            keypoints: (B, K, C) features of the keypoint names.
            keypoint_mask: (B, K) bool, True where a name exists.
            extra: denoising queries, in training.

        Raises:
            ConfigError: more classes or keypoints than one pass takes.
        """
        view = self.look(pixels, pixel_mask)
        return self.estimate(view, labels, label_mask, keypoints, keypoint_mask, extra=extra)

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> View:
        """The part of `forward` that needs no labels; several label sets may share it."""
        with self.products(pixels):
            pyramid, positions = lay_out(
                self.backbone[0](pixels),
                pixel_mask,
                projections=self.input_proj,
                position_embedding=self.position_embedding,
                level_embed=self.transformer.level_embed,
            )
        return View(pyramid=pyramid, positions=positions)

    def eyes(self) -> tuple[nn.Module | Tensor, ...]:
        """All weights that `look` depends on."""
        return self.backbone[0], self.input_proj, self.transformer.level_embed

    def estimate(
        self,
        view: View,
        labels: Tensor,
        label_mask: Tensor,
        keypoints: Tensor,
        keypoint_mask: Tensor,
        *,
        extra: ExtraQueries | None = None,
    ) -> PoseOutput:
        """The part of `forward` that does; see there."""
        self._check(labels, keypoints)
        part = self.transformer
        pyramid, labels = part.encoder(view.pyramid, view.positions, labels, label_mask)
        context = Context(
            pyramid=pyramid,
            labels=labels,
            label_mask=None if bool(label_mask.all()) else label_mask[:, None, None],
        )
        objects, anchors, usable = propose(pyramid, project=part.enc_output, normalise=part.enc_output_norm)
        scores = self._classify(objects, labels, label_mask)
        allowed = usable if self.config.usable_only else None
        chosen = best_tokens(scores, self.config.num_queries, allowed=allowed)
        box_logits = part.enc_out_bbox_embed(take(objects, chosen)) + take(anchors, chosen)
        everywhere = None
        if self.training:
            boxes = (part.enc_out_bbox_embed(objects) + anchors).sigmoid()
            everywhere = LayerOutput(logits=scores, boxes=boxes, queries=objects)
        layers, points = self._decode(box_logits, context, label_mask, keypoints, keypoint_mask, extra)
        count = 0 if extra is None else extra.content.shape[1]
        plain = [layer.part(count, layer.boxes.shape[1]) for layer in layers]
        return PoseOutput(
            boxes=plain[: self.config.num_box_decoder_layers],
            poses=plain[self.config.num_box_decoder_layers :],
            keypoints=points,
            extra=[layer.part(0, count) for layer in layers] if count else [],
            encoder=LayerOutput(
                logits=take(scores, chosen), boxes=box_logits.sigmoid(), queries=take(objects, chosen)
            ),
            tokens=everywhere,
            usable=usable,
            label_mask=label_mask,
            keypoint_mask=keypoint_mask,
        )

    def _check(self, labels: Tensor, keypoints: Tensor) -> None:
        limits = (self.config.max_text_len, self.config.num_body_points)
        given = (labels.shape[1], keypoints.shape[1])
        if min(given) < 1 or given[0] > limits[0] or given[1] > limits[1]:
            raise ConfigError(
                "the pose estimator takes a limited number of object classes and keypoints in one pass",
                value=given,
                limit=f"1 to {limits[0]} classes, 1 to {limits[1]} keypoints",
                remedy="Give them in groups; the pose tool does so by itself.",
            )

    def _classify(self, states: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
        """Dot products with the encoded classes, (B, K, N)."""
        config = self.config
        return label_logits(states, labels, label_mask, scale=config.logit_scale, bias=config.logit_bias)

    def _decode(
        self,
        box_logits: Tensor,
        context: Context,
        label_mask: Tensor,
        keypoints: Tensor,
        keypoint_mask: Tensor,
        extra: ExtraQueries | None,
    ) -> tuple[list[LayerOutput], list[KeypointOutput]]:
        """Predictions after every layer, extra queries first, and keypoints after every keypoint layer."""
        decoder = self.transformer.decoder
        state = self._start(box_logits, extra)
        layers: list[LayerOutput] = []
        query_mask = None if extra is None else extra.mask
        for shown, refined in decoder.refine_boxes(state, context, query_mask):
            boxes = decoder.read_boxes(shown.queries, shown.reference)
            layers.append(self._layer(shown.queries, boxes, context.labels, label_mask))
            state = refined
        asked = keypoints.shape[1]
        keypoints, keypoint_mask = self._fill_places(keypoints, keypoint_mask)
        count = 0 if extra is None else extra.content.shape[1]
        scores = self._classify(state.queries[:, count:], context.labels, label_mask)
        chosen = best_tokens(scores, self.config.num_groups)
        seats = Seats(extra=count, groups=chosen.shape[1], points=keypoints.shape[1])
        state = decoder.expand(state, chosen, keypoints, seats)
        groups = self._groups(keypoint_mask, seats, extra)
        found: list[KeypointOutput] = []
        for shown in decoder.refine_poses(state, context, groups, seats):
            states, members = seats.split(shown.queries)
            references = seats.split(shown.reference)
            boxes = decoder.read_boxes(states, references[0])
            layers.append(self._layer(states, boxes, context.labels, label_mask))
            found.append(self._points(members[:, :, :asked], references[1][:, :, :asked]))
        return layers, found

    def _start(self, box_logits: Tensor, extra: ExtraQueries | None) -> State:
        """Learned content (fewer than configured when the image has fewer tokens) on proposed boxes."""
        batch, count = box_logits.shape[:2]
        queries = self.transformer.tgt_embed.weight[:count].expand(batch, -1, -1)
        reference = box_logits.detach().sigmoid()
        if extra is None:
            return State(queries=queries, reference=reference)
        return State(
            queries=torch.cat([extra.content, queries], dim=1),
            reference=torch.cat([extra.boxes.sigmoid(), reference], dim=1),
        )

    def _fill_places(self, keypoints: Tensor, keypoint_mask: Tensor) -> tuple[Tensor, Tensor]:
        """With the released mask, absent keypoints matter: they are zero, and fill all places of a group."""
        keypoints = keypoints.masked_fill(~keypoint_mask[..., None], 0.0)
        missing = self.config.num_body_points - keypoints.shape[1]
        if not self.config.released_group_mask or not missing:
            return keypoints, keypoint_mask
        return F.pad(keypoints, (0, 0, 0, missing)), F.pad(keypoint_mask, (0, missing))

    def _groups(self, keypoint_mask: Tensor, seats: Seats, extra: ExtraQueries | None) -> Tensor | Groups:
        if extra is not None:  # the released code errs only without denoising queries
            return inside_groups(keypoint_mask, lead=extra.mask[: seats.extra, : seats.extra])
        if self.config.released_group_mask:
            return released_mask(keypoint_mask, seats.groups)
        return inside_groups(keypoint_mask)

    def _layer(self, states: Tensor, boxes: Tensor, labels: Tensor, label_mask: Tensor) -> LayerOutput:
        return LayerOutput(logits=self._classify(states, labels, label_mask), boxes=boxes, queries=states)

    def _points(self, states: Tensor, reference: Tensor) -> KeypointOutput:
        visible = None if self.visibility_embed is None else self.visibility_embed(states)[..., 0]
        return KeypointOutput(points=self.transformer.decoder.read_points(states, reference), visible=visible)
