"""Building a diffusion decoder's parts from their configurations, with the library's own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.extras import import_extra
from visionllm_tools.diffusion.config import DiffusionConfig
from visionllm_tools.diffusion.library import EXTRA, diffusers_class


class CaptionEncoder(nn.Module):
    """The library's CLIP text model under the released key `text_model.`

    Args:
        text_model: a `CLIPTextModel`.
    """

    def __init__(self, text_model: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model

    @property
    def config(self) -> Any:
        """The library's configuration of the text model."""
        return self.text_model.config

    def forward(self, ids: Any) -> Any:
        """Features (B, L, d) of token ids (B, L): last layer, after the final norm."""
        return self.text_model(ids).last_hidden_state


def build_unet(config: DiffusionConfig) -> nn.Module:
    """The denoiser.

    Raises:
        ConfigError: an unknown class, or numbers that it refuses.
        MissingExtraError: the library is not installed.
    """
    return _build("denoiser", _UNETS, config.parts.unet)


def build_vae(config: DiffusionConfig) -> nn.Module:
    """The autoencoder between pictures and latents; frozen.

    Raises:
        ConfigError: an unknown class, or numbers that it refuses.
        MissingExtraError: the library is not installed.
    """
    return _build("autoencoder", _VAES, config.parts.vae).requires_grad_(False)


def build_text_encoder(config: DiffusionConfig) -> CaptionEncoder | None:
    """The CLIP text model that the conditioning learns from; frozen. None if the checkpoint has none."""
    if config.parts.text_encoder is None:
        return None
    from transformers import CLIPTextConfig, CLIPTextModel

    numbers = {name: value for name, value in config.parts.text_encoder.items() if name not in _OBSOLETE}
    library = CLIPTextConfig(**numbers)
    if library.hidden_size != config.sd_hidden_size or library.max_position_embeddings != config.num_queries:
        raise ConfigError(
            "the conditioning does not have the shape of the text encoder's features",
            value=(config.num_queries, config.sd_hidden_size),
            limit=(library.max_position_embeddings, library.hidden_size),
            remedy="Correct num_queries and sd_hidden_size in config.json.",
        )
    return CaptionEncoder(CLIPTextModel(library).requires_grad_(False))


def _build(
    role: str, known: Mapping[str, Callable[[], type[nn.Module]]], numbers: Mapping[str, Any]
) -> nn.Module:
    name = numbers.get("_class_name", next(iter(known)))
    if name not in known:
        raise ConfigError(
            f"the {role} is of an unknown class",
            value=name,
            limit=", ".join(known),
            remedy="Correct _class_name in config.json.",
        )
    public = {key: value for key, value in numbers.items() if not key.startswith("_")}
    kind = known[name]()
    try:
        return kind(**public)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the {role} cannot be built: {error}", value=public, remedy="Correct config.json."
        ) from error


def _library(name: str) -> Callable[[], type[nn.Module]]:
    def load() -> type[nn.Module]:
        kind: type[nn.Module] = diffusers_class(name)
        return kind

    return load


def _grid_unet() -> type[nn.Module]:
    import_extra("diffusers", extra=EXTRA)
    from visionllm_tools.diffusion.unet import GridUNet

    return GridUNet


def _haar_vae() -> type[nn.Module]:
    import_extra("diffusers", extra=EXTRA)
    from visionllm_tools.diffusion.haar import HaarVAE

    return HaarVAE


_UNETS = {"UNet2DConditionModel": _library("UNet2DConditionModel"), "GridUNet": _grid_unet}
_VAES = {"AutoencoderKL": _library("AutoencoderKL"), "HaarVAE": _haar_vae}
_OBSOLETE = frozenset({"architectures", "model_type", "torch_dtype", "transformers_version"})
