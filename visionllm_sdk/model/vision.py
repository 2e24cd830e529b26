"""Vision encoders of the language side: CLIP, InternViT and a residual conv net, behind one interface.

Every encoder yields, for a batch of tiles, the patch tokens that the bridge takes, and on demand the three
feature maps that the region encoder takes. The networks are the library's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoBackbone,
    CLIPVisionConfig,
    CLIPVisionModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    ResNetConfig,
)

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.config import DEFAULT_IMAGE_SIZE, ModelConfig
from visionllm_sdk.model.documents import naming
from visionllm_sdk.model.lanes import even_parts, side_by_side
from visionllm_sdk.model.precision import QuickConvolutions

REGION_LEVELS = 3
_TILES_AT_ONCE = 32
_TILES_IN_CACHE = 4  # a processor takes longer for each tile when more of them leave no room in its cache
# Eps of the library's query/key norm, which cannot be configured.
_QK_NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class VisionFeatures:
    """What an encoder sees in a batch of tiles.

    Attributes:
        tokens: patch tokens in row-major order, no class token. (T, P, V)
        levels: feature maps for the region encoder, fine to coarse or shallow to deep; empty if not asked
            for. Each (T, V_k, h_k, w_k)
    """

    tokens: Tensor
    levels: tuple[Tensor, ...] = field(default=())

    @classmethod
    def join(cls, features: Sequence[VisionFeatures], *, levels: bool) -> VisionFeatures:
        """The features of several batches as those of one, with or without their feature maps."""
        tokens = torch.cat([one.tokens for one in features])
        if not levels:
            return cls(tokens)
        maps = zip(*(one.levels for one in features), strict=True)
        return cls(tokens, tuple(torch.cat(level) for level in maps))

    def split(self, sizes: Sequence[int]) -> list[VisionFeatures]:
        """The features of parts with so many tiles."""
        levels = [level.split(list(sizes)) for level in self.levels]
        return [
            VisionFeatures(tokens, tuple(level[index] for level in levels))
            for index, tokens in enumerate(self.tokens.split(list(sizes)))
        ]


class VisionEncoder(nn.Module, ABC):
    """Base of the encoders.

    Attributes:
        width: V, width of the patch tokens.
        grid: patches per side, so that P = grid * grid.
        level_widths: channels of the region encoder's feature maps.
    """

    width: int
    grid: int
    level_widths: tuple[int, ...]

    @abstractmethod
    def forward(self, pixels: Tensor, *, levels: bool = False) -> VisionFeatures:
        """Encode tiles.

        Args:
            pixels: normalised RGB. (T, 3, S, S)
            levels: also return the feature maps for the region encoder.
        """


class PatchEncoder(VisionEncoder):
    """A vision transformer with class token.

    The layers are run here one by one: layers after the hidden states in use are skipped.

    Args:
        model: the library's network.
        layer: index of the hidden state that feeds the bridge, negative, -1 the last.
        width: V.
        grid: patches per side.
    """

    def __init__(self, model: nn.Module, *, layer: int, width: int, grid: int) -> None:
        super().__init__()
        self.vision_model = model
        depth = len(self.layers())
        if not -depth - 1 <= layer < 0:
            raise ConfigError(
                "vis_output_layer does not exist in this vision encoder",
                value=layer,
                limit=f"{-depth - 1} to -1",
                remedy="Correct config.json.",
            )
        self.layer = layer
        self.width = width
        self.grid = grid
        self.level_widths = (width,) * REGION_LEVELS

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels to the first hidden state, class token first. (T, 3, S, S) -> (T, 1 + P, V)"""

    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The transformer layers."""

    def forward(self, pixels: Tensor, *, levels: bool = False) -> VisionFeatures:
        """See :meth:`VisionEncoder.forward`; the levels are the last three hidden states."""
        skipped = 0 if levels else -1 - self.layer
        states = self.hidden_states(pixels, skip_last=skipped)
        tokens = states[self.layer + skipped][:, 1:]  # (T, P, V)
        if not levels:
            return VisionFeatures(tokens)
        return VisionFeatures(tokens, tuple(self._as_map(state) for state in states[-REGION_LEVELS:]))

    def hidden_states(self, pixels: Tensor, *, skip_last: int = 0) -> list[Tensor]:
        """The embedding and every layer's output, class token first; the last layers may be skipped."""
        states = [self.embed(pixels)]  # (T, 1 + P, V)
        layers = self.layers()
        for layer in layers[: len(layers) - skip_last]:
            states.append(self.run_layer(layer, states[-1]))
        return states

    def run_layer(self, layer: nn.Module, state: Tensor) -> Tensor:
        """One layer."""
        output: Tensor = layer(state)
        return output

    def _as_map(self, state: Tensor) -> Tensor:
        return state[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (T, V, g, g)


class ClipEncoder(PatchEncoder):
    """CLIP vision transformer (7B family)."""

    vision_model: CLIPVisionModel

    def embed(self, pixels: Tensor) -> Tensor:
        """See :meth:`PatchEncoder.embed`."""
        state: Tensor = self.vision_model.pre_layrnorm(self.vision_model.embeddings(pixels))
        return state

    def layers(self) -> nn.ModuleList:
        """See :meth:`PatchEncoder.layers`."""
        stack: nn.ModuleList = self.vision_model.encoder.layers
        return stack

    def run_layer(self, layer: nn.Module, state: Tensor) -> Tensor:
        """One layer, without a mask: full attention."""
        output: Tensor = layer(state, attention_mask=None)
        return output


class InternVitEncoder(PatchEncoder):
    """InternViT on the library's InternVL vision blocks (26B family)."""

    vision_model: InternVLVisionModel

    def embed(self, pixels: Tensor) -> Tensor:
        """See :meth:`PatchEncoder.embed`."""
        state: Tensor = self.vision_model.embeddings(pixels)
        return state

    def layers(self) -> nn.ModuleList:
        """See :meth:`PatchEncoder.layers`."""
        stack: nn.ModuleList = self.vision_model.encoder.layer
        return stack


class ConvEncoder(VisionEncoder, QuickConvolutions):
    """A residual conv net through the library's AutoBackbone; its last stage feeds the bridge.

    Args:
        model: a backbone whose feature maps are ordered fine to coarse.
        widths: channels of those maps.
        grid: side of the coarsest map.
    """

    def __init__(self, model: nn.Module, *, widths: tuple[int, ...], grid: int) -> None:
        super().__init__()
        self.vision_model = model
        self.width = widths[-1]
        self.grid = grid
        self.level_widths = widths[-REGION_LEVELS:]

    def forward(self, pixels: Tensor, *, levels: bool = False) -> VisionFeatures:
        """See :meth:`VisionEncoder.forward`; the levels are the last three stages."""
        maps = self.feature_maps(self.vision_model, pixels)
        tokens = maps[-1].flatten(2).transpose(1, 2)  # (T, P, V)
        return VisionFeatures(tokens, tuple(maps[-REGION_LEVELS:]) if levels else ())


def build_clip(section: Mapping[str, Any], layer: int) -> VisionEncoder:
    """CLIP vision transformer from its library configuration."""
    config = CLIPVisionConfig(**_without_type(section))
    grid = section["image_size"] // section["patch_size"]
    return ClipEncoder(CLIPVisionModel(config), layer=layer, width=config.hidden_size, grid=grid)


def build_intern_vit(section: Mapping[str, Any], layer: int) -> VisionEncoder:
    """InternViT on the library's InternVL vision blocks.

    Raises:
        ConfigError: the query/key norm has an eps that the library cannot express.
    """
    eps = section.get("layer_norm_eps", _QK_NORM_EPS)
    if section.get("qk_normalization", True) and eps != _QK_NORM_EPS:
        raise ConfigError(
            "vis_encoder_config: query/key normalisation with this layer_norm_eps is not supported",
            value=eps,
            limit=_QK_NORM_EPS,
            remedy="Use a checkpoint of the InternViT-6B family.",
        )
    size, patch = section["image_size"], section["patch_size"]
    config = InternVLVisionConfig(
        hidden_size=section["hidden_size"],
        intermediate_size=section["intermediate_size"],
        num_hidden_layers=section["num_hidden_layers"],
        num_attention_heads=section["num_attention_heads"],
        image_size=(size, size),
        patch_size=(patch, patch),
        hidden_act=section.get("hidden_act", "gelu"),
        norm_type=section.get("norm_type", "rms_norm"),
        layer_norm_eps=eps,
        attention_bias=section.get("qkv_bias", False),
        use_qk_norm=section.get("qk_normalization", True),
        attention_dropout=section.get("attention_dropout", 0.0),
        hidden_dropout_prob=section.get("dropout", 0.0),
    )
    model = InternVLVisionModel(config)
    return InternVitEncoder(model, layer=layer, width=config.hidden_size, grid=size // patch)


def build_resnet(section: Mapping[str, Any], layer: int) -> VisionEncoder:
    """Residual conv net of the library; ``layer`` has no meaning here, the last stage feeds the bridge."""
    del layer
    config = ResNetConfig(**_without_type(section))
    model = AutoBackbone.from_config(config)
    # The stem divides by 4; every stage after the first, and the first on demand, divides by 2.
    halvings = max(model.out_indices) - 1 + bool(config.downsample_in_first_stage)
    grid = math.ceil(section.get("image_size", DEFAULT_IMAGE_SIZE) / (4 * 2**halvings))
    return ConvEncoder(model, widths=tuple(model.channels), grid=grid)


_BUILDERS: dict[str, Callable[[Mapping[str, Any], int], VisionEncoder]] = {
    "clip_vision_model": build_clip,
    "intern_vit_6b": build_intern_vit,
    "resnet": build_resnet,
}


def build_vision(config: ModelConfig) -> VisionEncoder:
    """The vision encoder of a configuration, with random weights.

    Raises:
        ConfigError: unknown ``model_type``, or a value that the library cannot use.
    """
    kind = config.vision["model_type"]
    if kind not in _BUILDERS:
        raise ConfigError(
            "unknown vision encoder", value=kind, limit=", ".join(_BUILDERS), remedy="Correct config.json."
        )
    with naming("vis_encoder_config"):
        return _BUILDERS[kind](config.vision, config.vision_layer)


def _without_type(section: Mapping[str, Any]) -> dict[str, Any]:
    not_ours = ("model_type", "dtype", "torch_dtype")
    return {name: value for name, value in section.items() if name not in not_ours}


@torch.no_grad()
def frozen_features(encoder: VisionEncoder, pixels: Tensor, *, levels: bool) -> VisionFeatures:
    """Features without gradient (the vision encoder is never trained), a few tiles at a time."""
    batch = _TILES_IN_CACHE if pixels.device.type == "cpu" else _TILES_AT_ONCE
    parts = pixels.split(even_parts(len(pixels), batch, pixels.device))
    chunks = side_by_side(lambda chunk: encoder(chunk, levels=levels), parts, pixels.device)
    if len(chunks) == 1:
        return chunks[0]
    maps = zip(*(chunk.levels for chunk in chunks), strict=True)
    return VisionFeatures(
        torch.cat([chunk.tokens for chunk in chunks]), tuple(torch.cat(level) for level in maps)
    )
