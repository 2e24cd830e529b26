"""Numbers of the detector, readable from the released `gdino_config` and writable back to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig

from visionllm_sdk.errors import ConfigError

_NO_TEXT_BACKBONE = {"model_type": "bert", "num_hidden_layers": 0}


_BOTH = 1.1
"""Up to so many times `second_look_from` things are looked for in both looks, lest one falls between them."""


@dataclass(frozen=True)
class Look:
    """One size at which images are looked at, and what it is for.

    Attributes:
        shortest_edge: of the input, in pixels, with `longest_edge` as the limit.
        longest_edge: see `shortest_edge`.
        least: longer side of the smallest thing that it tells of, as a share of `shortest_edge`.
        most: that of the largest.
    """

    shortest_edge: int
    longest_edge: int
    least: float = 0.0
    most: float = math.inf

    def tells_of(self, sides: Tensor) -> Tensor:
        """Which things it is for, by their width and height (..., 2) in pixels of its input. (...) bool."""
        extent = sides.amax(-1) / self.shortest_edge
        return (extent >= self.least) & (extent <= self.most)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Grounding DINO without its text backbone, plus a mask head. Names follow the released `gdino_config`.

    Attributes:
        backbone_config: the library's backbone configuration (`model_type` `swin`, `resnet`, ...), with four
            outputs at strides 4, 8, 16 and 32.
        num_queries: object queries.
        d_model: channels of queries, tokens and labels.
        mask_dim: channels of the mask features.
        l_hidden_size: channels of the super-link states that `patch2query` reads.
        num_embs: super-link queries per label.
        max_text_len: labels in one pass; more are handled in groups.
        norm: normalisation of the mask features' convolutions; `GN` is the only one released.
        shortest_edge: default input size in pixels, with `longest_edge` as the limit. Extra field.
        longest_edge: see `shortest_edge`. Extra field.
        logit_scale: factor on every class logit; 1 in released weights. Extra field.
        logit_bias: constant added to every class logit; 0 in released weights. Extra field.
        score_threshold: default score from which a detection counts. Extra field.
        semantic_floor: pixels of a semantic map whose best label sums up to less stay unlabelled; 0
            (released) labels every pixel. Extra field.
        semantic_gate: a query that gives a label less probability tells a semantic map nothing of it; 0
            (released) hears all. Much weak evidence would add up where no other label competes. Extra field.
        boxes_from_masks: a detection's box is the tight box of its mask, where both agree by at least this
            IoU; None (released) keeps the predicted boxes. Small decoders draw sharper masks than boxes.
            Extra field.
        mask_margin: a mask ends where its box does, grown on every side by this share of its width and
            height; None (released) leaves masks as they are. Small decoders leave specks on things alike.
            Extra field.
        suppression: IoU above which a worse detection of the same label is dropped; None (released) keeps
            all. Extra field.
        shared_scores: with `suppression`, what is kept gets the probability that it or the best of its copies
            is right. Extra field.
        second_look: share of the input size at which images are looked at once more, for things larger than
            `second_look_from`; None (released) looks once. Small decoders know no things that fill a picture,
            but in a smaller picture these are as they know them. Extra field.
        second_look_from: longer side, as a share of the input's `shortest_edge`, from which a thing is the
            second look's. Extra field.
        mixed_label_masks: reproduce the released code's mix-up of label masks between the items of a batch
            (`between_labels`); only batches with different numbers of labels differ. Extra field.
        usable_only: take encoder proposals from usable tokens only (image, not at the very border). The
            released model may propose others, which all get the reference box (1, 1, 1, 1). Extra field.
        extra: fields of the file that this class does not use, kept so that writing returns what was read.
    """

    backbone_config: dict[str, Any]
    num_queries: int = 900
    d_model: int = 256
    encoder_layers: int = 6
    encoder_ffn_dim: int = 2048
    encoder_attention_heads: int = 8
    encoder_n_points: int = 4
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 8
    decoder_n_points: int = 4
    num_feature_levels: int = 4
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation_function: str = "relu"
    text_enhancer_dropout: float = 0.0
    fusion_droppath: float = 0.1
    fusion_dropout: float = 0.0
    positional_embedding_temperature: int = 20
    max_text_len: int = 256
    mask_dim: int = 256
    l_hidden_size: int = 4096
    num_embs: int = 4
    norm: str = "GN"
    shortest_edge: int = 800
    longest_edge: int = 1333
    logit_scale: float = 1.0
    logit_bias: float = 0.0
    score_threshold: float = 0.3
    semantic_floor: float = 0.0
    semantic_gate: float = 0.0
    suppression: float | None = None
    shared_scores: bool = False
    boxes_from_masks: float | None = None
    mask_margin: float | None = None
    second_look: float | None = None
    second_look_from: float = 0.5
    mixed_label_masks: bool = False
    usable_only: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            heads = getattr(self, name)
            if heads < 1 or self.d_model % heads:
                raise ConfigError(
                    f"gdino_config.{name} does not divide d_model",
                    value=heads,
                    limit=f"a divisor of {self.d_model}",
                    remedy="Change one of the two numbers.",
                )
        if self.norm != "GN":
            raise ConfigError(
                "gdino_config.norm is unknown", value=self.norm, limit="GN", remedy="Set norm to 'GN'."
            )
        if self.second_look is not None and not 0 < self.second_look < 1:
            raise ConfigError(
                "gdino_config.second_look is not a smaller share of the input size",
                value=self.second_look,
                limit="above 0, below 1, or null",
            )
        if self.d_model % 32:
            raise ConfigError(
                "gdino_config.d_model does not fit the 32 groups of its normalisation",
                value=self.d_model,
                limit="multiples of 32",
                remedy="Choose a multiple of 32.",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DetectorConfig:
        """Read the released form.

        Args:
            data: the `gdino_config` object of a checkpoint's `config.json`.

        Raises:
            ConfigError: `backbone_config` is missing, or numbers do not fit together.
        """
        if "backbone_config" not in data:
            raise ConfigError(
                "gdino_config has no backbone_config",
                remedy="Add one with a model_type, such as 'swin' or 'resnet', and four outputs.",
            )
        known = {item.name for item in fields(cls)} - {"extra"}
        own = {name: value for name, value in data.items() if name in known}
        return cls(**own, extra={name: value for name, value in data.items() if name not in known})

    def to_dict(self) -> dict[str, Any]:
        """The released form, with the fields that `from_dict` found and did not need."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {**self.extra, **own}

    def backbone(self) -> PretrainedConfig:
        """The library's configuration of the backbone, with outputs at strides 4, 8, 16 and 32."""
        data = {name: value for name, value in self.backbone_config.items() if name not in _OBSOLETE}
        model_type = data.pop("model_type", None)
        if model_type is None:
            raise ConfigError(
                "backbone_config has no model_type", remedy="Name one, such as 'swin' or 'resnet'."
            )
        return AutoConfig.for_model(model_type, **data)

    def looks(self) -> tuple[Look, ...]:
        """How images are looked at: once, or once for small things and once for large ones."""
        if self.second_look is None:
            return (Look(self.shortest_edge, self.longest_edge),)
        share, start = self.second_look, self.second_look_from
        shortest, longest = (max(1, round(edge * share)) for edge in (self.shortest_edge, self.longest_edge))
        return (
            Look(self.shortest_edge, self.longest_edge, most=start * _BOTH),
            Look(shortest, longest, least=start),
        )

    def library(self) -> GroundingDinoConfig:
        """The configuration that the library's blocks are built from."""
        names = {item.name for item in fields(GroundingDinoConfig)} & {item.name for item in fields(self)}
        numbers = {name: getattr(self, name) for name in names if name != "backbone_config"}
        return GroundingDinoConfig(**numbers, text_config=dict(_NO_TEXT_BACKBONE))


_OBSOLETE = frozenset({"torch_dtype", "transformers_version", "hidden_size", "num_layers", "stage_names"})
"""Fields that older library versions wrote and that newer ones derive."""
