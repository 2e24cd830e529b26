"""Numbers of the pose estimator, readable from the released `unipose_config` and writable back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig

from visionllm_sdk.errors import ConfigError

_NAMED_BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "swin_T_224_1k": {
        "model_type": "swin",
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "drop_path_rate": 0.2,
        "out_indices": [2, 3, 4],
    }
}
"""What the released configuration means by a backbone's name."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """UniPose without its text encoder. Names follow the released `unipose_config`.

    Attributes:
        backbone: the released name of a backbone; read only where `backbone_config` is None.
        backbone_config: the library's backbone configuration (`model_type` `swin`, `resnet`, ...), with three
            outputs at strides 8, 16 and 32. Extra field.
        hidden_dim: channels of queries, tokens and labels.
        nheads: attention heads; half as many where labels take part in the encoder.
        enc_layers: encoder layers.
        dec_layers: decoder layers, of both kinds.
        num_box_decoder_layers: decoder layers on boxes alone; the others refine boxes and keypoints together.
        num_queries: object queries of the box layers.
        num_groups: queries that go on to the keypoint layers, each with its own keypoints. Extra field.
        num_body_points: places for keypoints in a group, and so the most keypoints of one pass.
        num_feature_levels: levels of the token pyramid.
        dim_feedforward: width of the feed-forward networks.
        enc_n_points: sampled points per head and level in the encoder.
        dec_n_points: the same in the decoder.
        pe_temperatureH: temperature of the image's position embedding.
        dropout: of all transformer layers.
        text_dropout: of the layers among labels.
        fusion_dropout: of the fusion of image and labels.
        fusion_droppath: share of samples that skip the fusion in training.
        l_hidden_size: channels of the super-link states.
        num_embs: super-link queries per label.
        max_text_len: object classes in one pass.
        dn_number: denoising queries in training (`DenoisingConfig.queries`).
        dn_label_noise_ratio: see `DenoisingConfig.flip`.
        dn_box_noise_scale: see `DenoisingConfig.noise`.
        released_group_mask: reproduce the released code's attention mask between groups, which counts 68
            instead of 69 members, so that keypoints see parts of other groups. On for released weights, which
            are evaluated so; a file without this field is released. Extra field.
        shortest_edge: default input size in pixels, with `longest_edge` as the limit. Extra field.
        longest_edge: see `shortest_edge`. Extra field.
        logit_scale: factor on every class logit; 1 in released weights. Extra field.
        logit_bias: constant added to every class logit; 0 in released weights. Extra field.
        score_threshold: default score from which a pose counts. Extra field.
        suppression: IoU above which a worse pose of the same label is dropped; None (released) keeps all.
            Extra field.
        covered: where `suppression` is set, share of the smaller box in a better pose's above which a pose of
            the same label is dropped, too: a part of a figure taken for a whole one. Extra field.
        shared_scores: see `DetectorConfig`. Extra field.
        visible_threshold: a keypoint counts as visible from this score. Extra field.
        keypoint_visibility: whether a head of its own predicts each keypoint's visibility; the released
            weights have none. Extra field.
        mixed_label_masks: see `DetectorConfig`. Extra field.
        usable_only: see `DetectorConfig`. Extra field.
        extra: fields of the file that this class does not use, kept so that writing returns what was read.
    """

    backbone: str = "swin_T_224_1k"
    backbone_config: Mapping[str, Any] | None = None
    hidden_dim: int = 256
    nheads: int = 8
    enc_layers: int = 6
    dec_layers: int = 6
    num_box_decoder_layers: int = 2
    num_queries: int = 900
    num_groups: int = 50
    num_body_points: int = 68
    num_feature_levels: int = 4
    dim_feedforward: int = 2048
    enc_n_points: int = 4
    dec_n_points: int = 4
    pe_temperatureH: int = 20  # the released spelling
    dropout: float = 0.0
    text_dropout: float = 0.0
    fusion_dropout: float = 0.0
    fusion_droppath: float = 0.1
    l_hidden_size: int = 4096
    num_embs: int = 4
    max_text_len: int = 256
    dn_number: int = 100
    dn_label_noise_ratio: float = 0.5
    dn_box_noise_scale: float = 1.0
    released_group_mask: bool = False
    shortest_edge: int = 800
    longest_edge: int = 1333
    logit_scale: float = 1.0
    logit_bias: float = 0.0
    score_threshold: float = 0.3
    suppression: float | None = None
    covered: float | None = None
    shared_scores: bool = False
    visible_threshold: float = 0.5
    keypoint_visibility: bool = False
    mixed_label_masks: bool = False
    usable_only: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hidden_dim % 32 or self.nheads < 2 or self.nheads % 2 or self.hidden_dim % self.nheads:
            raise ConfigError(
                "unipose_config.hidden_dim and nheads do not fit together",
                value=(self.hidden_dim, self.nheads),
                limit="a multiple of 32, and an even number of heads that divides it",
                remedy="Change one of the two numbers.",
            )
        if not 0 < self.num_box_decoder_layers < self.dec_layers:
            raise ConfigError(
                "unipose_config.num_box_decoder_layers leaves one kind of decoder layer without any",
                value=self.num_box_decoder_layers,
                limit=f"1 to {self.dec_layers - 1}",
                remedy="Let some of dec_layers refine boxes, and the others keypoints.",
            )
        if self.num_groups > self.num_queries or min(self.num_groups, self.num_body_points) < 1:
            raise ConfigError(
                "unipose_config has an impossible number of groups or keypoints",
                value=(self.num_groups, self.num_body_points),
                limit=f"1 to {self.num_queries} groups, at least 1 keypoint",
                remedy="Correct num_groups or num_body_points.",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PoseConfig:
        """Read the released form.

        Args:
            data: the `unipose_config` object of a checkpoint's `config.json`.

        Raises:
            ConfigError: numbers do not fit together.
        """
        known = {item.name for item in fields(cls)} - {"extra"}
        own = {name: value for name, value in data.items() if name in known}
        own.setdefault("released_group_mask", True)
        return cls(**own, extra={name: value for name, value in data.items() if name not in known})

    def to_dict(self) -> dict[str, Any]:
        """The released form, with the fields that `from_dict` found and did not need."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {**self.extra, **own}

    def backbone_library(self) -> PretrainedConfig:
        """The library's configuration of the backbone, with outputs at strides 8, 16 and 32.

        Raises:
            ConfigError: an unknown backbone name, or a configuration without `model_type`.
        """
        data = self.backbone_config
        if data is None:
            data = _NAMED_BACKBONES.get(self.backbone)
        if data is None or "model_type" not in data:
            raise ConfigError(
                "unipose_config does not say which backbone it means",
                value=self.backbone if data is None else sorted(data),
                limit=f"backbone one of {sorted(_NAMED_BACKBONES)}, or a backbone_config with model_type",
                remedy="Add a backbone_config, such as one with model_type 'swin' or 'resnet'.",
            )
        return AutoConfig.for_model(**data)

    def library(self) -> GroundingDinoConfig:
        """The configuration that the library's blocks are built from."""
        return GroundingDinoConfig(
            text_config={"model_type": "bert", "num_hidden_layers": 0},
            d_model=self.hidden_dim,
            num_queries=self.num_queries,
            encoder_layers=self.enc_layers,
            encoder_ffn_dim=self.dim_feedforward,
            encoder_attention_heads=self.nheads,
            encoder_n_points=self.enc_n_points,
            decoder_layers=self.dec_layers,
            decoder_ffn_dim=self.dim_feedforward,
            decoder_attention_heads=self.nheads,
            decoder_n_points=self.dec_n_points,
            num_feature_levels=self.num_feature_levels,
            positional_embedding_temperature=self.pe_temperatureH,
            dropout=self.dropout,
            attention_dropout=self.dropout,
            activation_dropout=self.dropout,
            text_enhancer_dropout=self.text_dropout,
            fusion_dropout=self.fusion_dropout,
            fusion_droppath=self.fusion_droppath,
        )
