"""Numbers of a diffusion decoder, readable from the released `sd_config` and `ip2p_config`.

The released form names a folder (`sd_model_id`) that holds the parts' own configurations. Here they stand in
an extra object `visionllm_sdk` inside the section; without it the parts are those of the released model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from visionllm_sdk.errors import ConfigError
from visionllm_tools.diffusion import released

SECTION = "visionllm_sdk"


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """The extra object `visionllm_sdk`: the parts, and how pictures are made unless a caller says otherwise.

    Attributes:
        unet: configuration of the denoiser: `UNet2DConditionModel`, or `GridUNet` of this package.
        vae: configuration of the autoencoder: `AutoencoderKL`, or `HaarVAE` of this package.
        text_encoder: configuration of the CLIP text model; None if the checkpoint has none.
        scheduler: noise schedule, prediction type, and the default sampler's class.
        steps: default number of denoising steps.
        image_guidance: default guidance towards the input image (editing).
        fixed_size: pictures are made in about the size of training and then brought to the wanted size.
        keep_threshold: editing: pixels that changed by less than this share of full scale are taken from the
            input image; None (released) takes all from the decoder.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any] = field(default_factory=lambda: dict(released.VAE))
    text_encoder: Mapping[str, Any] | None = field(default_factory=lambda: dict(released.TEXT_ENCODER))
    scheduler: Mapping[str, Any]
    steps: int = 50
    image_guidance: float = 1.5
    fixed_size: bool = False
    keep_threshold: float | None = None


GENERATION_PARTS = PartsConfig(unet=released.UNET, scheduler=released.SCHEDULER)
EDITING_PARTS = PartsConfig(unet=released.EDITING_UNET, scheduler=released.EDITING_SCHEDULER, steps=100)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """A diffusion decoder. Names follow the released `sd_config` and `ip2p_config`.

    Attributes:
        llm_hidden_size: channels C of the super-link states.
        sd_hidden_size: channels of the conditioning.
        num_queries: conditioning tokens; as many as the text encoder's, where there is one.
        num_encoder_layers, num_decoder_layers: of the mapper.
        num_attention_heads: of the mapper; 8 in released weights. Extra field.
        num_embed_tokens: super-link queries of a picture.
        cfg_drop_rate: in training, half of the share of dropped captions, and the share of images that are
            dropped alone (editing).
        cfg_scale: default guidance towards the caption.
        sd_model_id: folder with the parts' tokenizer.
        parts: the extra object.
        extra: fields of the file that this class does not use, kept so that writing returns what was read.
    """

    llm_hidden_size: int
    sd_hidden_size: int = 768
    num_queries: int = 77
    num_encoder_layers: int = 1
    num_decoder_layers: int = 1
    num_attention_heads: int = 8
    num_embed_tokens: int = 64
    cfg_drop_rate: float = 0.1
    cfg_scale: float = 7.5
    sd_model_id: str = ""
    parts: PartsConfig
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("llm_hidden_size", "sd_hidden_size", "num_queries", "num_encoder_layers"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(
            self.num_attention_heads >= 1 and self.sd_hidden_size % self.num_attention_heads == 0,
            "num_attention_heads",
            self.num_attention_heads,
            f"a divisor of sd_hidden_size ({self.sd_hidden_size})",
        )
        _require(0 <= self.cfg_drop_rate <= 0.5, "cfg_drop_rate", self.cfg_drop_rate, "0 to 0.5")
        width = self.parts.unet.get("cross_attention_dim", 1280)
        _require(
            width == self.sd_hidden_size,
            "the denoiser's cross_attention_dim",
            width,
            f"sd_hidden_size ({self.sd_hidden_size})",
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, defaults: PartsConfig) -> Self:
        """Read the released form.

        Args:
            data: the `sd_config` or `ip2p_config` object of a checkpoint's `config.json`.
            defaults: parts of the released model, for what the extra object does not say.

        Raises:
            ConfigError: an unknown field of the extra object, or numbers that do not fit together.
        """
        if "llm_hidden_size" not in data:
            raise ConfigError(
                "the diffusion section has no llm_hidden_size",
                remedy="Add the width of the language model.",
            )
        section = dict(data.get(SECTION, {}))
        known = {item.name for item in fields(PartsConfig)}
        unknown = sorted(set(section) - known)
        if unknown:
            raise ConfigError(
                f"the {SECTION} object of a diffusion section has unknown fields",
                value=unknown,
                limit=", ".join(sorted(known)),
                remedy="Remove or correct them.",
            )
        parts = replace(defaults, **section)
        own = {item.name for item in fields(cls)} - {"parts", "extra"}
        return cls(
            **{name: value for name, value in data.items() if name in own},
            parts=parts,
            extra={name: value for name, value in data.items() if name not in own and name != SECTION},
        )

    def to_dict(self) -> dict[str, Any]:
        """The released form with the extra object, and the fields that `from_dict` did not need."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        parts, extra = own.pop("parts"), own.pop("extra")
        section = {item.name: getattr(parts, item.name) for item in fields(parts)}
        return {**extra, **own, SECTION: section}


def _require(fits: bool, name: str, value: object, limit: str) -> None:
    if not fits:
        raise ConfigError(
            f"a diffusion section does not fit together: {name}",
            value=value,
            limit=limit,
            remedy="Correct config.json.",
        )
