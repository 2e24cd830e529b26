"""The image backbone: any of the library's backbones, under the key names of the released checkpoints."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import Tensor, nn
from transformers import AutoBackbone, PretrainedConfig
from transformers.models.swin.modeling_swin import SwinBackbone

from visionllm_sdk.errors import ConfigError
from visionllm_tools.blocks.swin import make_lean

_SWIN_NAMES = (  # released name -> the library's name
    (r"^(embeddings|encoder)\.", r"swin.\1."),
    (r"\.attention\.self\.query\.", r".attention.q_proj."),
    (r"\.attention\.self\.key\.", r".attention.k_proj."),
    (r"\.attention\.self\.value\.", r".attention.v_proj."),
    (r"\.attention\.self\.relative_position", r".attention.relative_position_bias.relative_position"),
    (r"\.attention\.output\.dense\.", r".attention.o_proj."),
    (r"\.intermediate\.dense\.", r".mlp.fc1."),
    (r"(\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
_LIBRARY_NAMES = (  # the inverse
    (r"^swin\.", r""),
    (r"\.attention\.q_proj\.", r".attention.self.query."),
    (r"\.attention\.k_proj\.", r".attention.self.key."),
    (r"\.attention\.v_proj\.", r".attention.self.value."),
    (r"\.attention\.relative_position_bias\.", r".attention.self."),
    (r"\.attention\.o_proj\.", r".attention.output.dense."),
    (r"\.mlp\.fc1\.", r".intermediate.dense."),
    (r"\.mlp\.fc2\.", r".output.dense."),
)
_INDEX = ".relative_position_index"


def released_to_library(name: str) -> str:
    """A Swin key below `conv_encoder.model.` of a released checkpoint under the library's name."""
    for pattern, replacement in _SWIN_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def library_to_released(name: str) -> str:
    """The inverse of `released_to_library`."""
    for pattern, replacement in _LIBRARY_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


class ConvEncoder(nn.Module):
    """Holds the library's backbone as `model`; for Swin, state dicts carry the released names.

    Args:
        config: a backbone configuration with four outputs at strides 4, 8, 16 and 32.

    Raises:
        ConfigError: the backbone has another number of outputs.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.model: nn.Module = AutoBackbone.from_config(config)
        self.channels: tuple[int, ...] = tuple(self.model.channels)
        if len(self.channels) != 4:
            raise ConfigError(
                "the detector's backbone must give feature maps at strides 4, 8, 16 and 32",
                value=f"{len(self.channels)} maps",
                limit="4 maps",
                remedy="Set out_indices to [1, 2, 3, 4] in backbone_config.",
            )
        if isinstance(self.model, SwinBackbone):
            self.model.swin.layernorm = nn.Identity()  # type: ignore[assignment]  # the backbone never uses its output
            make_lean(self.model)
            self.register_state_dict_post_hook(_write_released)
            self.register_load_state_dict_pre_hook(_read_released)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of (B, 3, H, W) pixels at strides 4, 8, 16 and 32, each (B, C_i, H_i, W_i)."""
        return list(self.model(pixels).feature_maps)


class Backbone(nn.Module):
    """Nesting of the released key layout: `backbone.conv_encoder.model`."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.conv_encoder = ConvEncoder(config)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `ConvEncoder.forward`."""
        return self.conv_encoder(pixels)


def _write_released(module: ConvEncoder, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Rename the library's Swin keys in a fresh state dict to the released ones, position index included."""
    start = prefix + "model."
    for key in [key for key in state if key.startswith(start)]:
        state[start + library_to_released(key.removeprefix(start))] = state.pop(key)
    for name, buffer in module.model.named_buffers():
        if name.endswith(_INDEX):
            tokens = math.isqrt(buffer.numel())
            state[start + library_to_released(name)] = buffer.view(tokens, tokens)


def _read_released(module: ConvEncoder, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Rename released Swin keys in a state dict to be loaded; the position index follows from the window."""
    start = prefix + "model."
    for key in [key for key in state if key.startswith(start)]:
        value = state.pop(key)
        if not key.endswith(_INDEX):
            state[start + released_to_library(key.removeprefix(start))] = value
