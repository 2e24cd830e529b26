from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

from tests.tools.diffusion.small import WIDTH, small_config
from visionllm_sdk.errors import ConfigError
from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, DiffusionConfig, PartsConfig
from visionllm_tools.diffusion.decoder import build_decoder
from visionllm_tools.editing.tool import EditingTool
from visionllm_tools.generation.tool import GenerationTool

# Of "key shape" lines, sorted, of the released 7B checkpoint: 1169 keys under each prefix.
RELEASED = {
    "sd": "edf46d4cde8059389ec0205c03a61efed537ffd21a786d04e893ab363fcd1c54",
    "ip2p": "5563ee60bd7fa7c2499a71eb9cd47ed8b83951a556dd1d135ba3e8d03b934395",
}


@pytest.mark.parametrize(("name", "parts"), [("sd", GENERATION_PARTS), ("ip2p", EDITING_PARTS)])
def test_keys_and_shapes_are_those_of_the_released_checkpoint(name: str, parts: PartsConfig) -> None:
    config = DiffusionConfig.from_dict({"llm_hidden_size": 4096}, defaults=parts)
    with torch.device("meta"):
        decoder = build_decoder(config)
    lines = sorted(f"{name}.{key} {tuple(value.shape)}" for key, value in decoder.state_dict().items())
    assert len(lines) == 1169
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == RELEASED[name]
    assert decoder.native_side == 512
    assert decoder.downscale == 8


def test_the_released_form_survives_reading_and_writing() -> None:
    released = small_config("sd")["sd_config"] | {"trigger_token": "[GEN]", "trigger_token_id": 616}
    config = DiffusionConfig.from_dict(released, defaults=GENERATION_PARTS)
    written = config.to_dict()
    assert written | released == written
    assert DiffusionConfig.from_dict(written, defaults=EDITING_PARTS) == config


def test_a_checkpoint_without_the_decoder() -> None:
    assert GenerationTool.from_config({"use_sd": False}) is None
    assert EditingTool.from_config({"llm_config": {"hidden_size": 4}}) is None


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    config = small_config(name)
    place = config[f"{name}_config"]
    *way, last = path.split("/")
    for step in way:
        place = place[step]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("llm_hidden_size", WIDTH + 1, "width of the language model"),
        ("num_attention_heads", 5, "num_attention_heads"),
        ("cfg_drop_rate", 0.7, "cfg_drop_rate"),
        ("num_queries", 0, "num_queries"),
        ("visionllm_sdk/sampler", "ddim", "unknown fields"),
        ("visionllm_sdk/unet/_class_name", "FluxTransformer", "unknown class"),
        ("visionllm_sdk/unet/cross_attention_dim", 64, "cross_attention_dim"),
        ("visionllm_sdk/unet/no_such_field", 1, "cannot be built"),
        ("visionllm_sdk/vae/levels", 0, "cannot be built"),
        ("visionllm_sdk/text_encoder", {"hidden_size": 64, "num_attention_heads": 4}, "text encoder"),
    ],
)
def test_contradictions_are_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerationTool.from_config(changed("sd", path, value))


def test_a_missing_section() -> None:
    with pytest.raises(ConfigError, match="sd_config is missing"):
        GenerationTool.from_config({"use_sd": True, "llm_config": {"hidden_size": 4}})
    with pytest.raises(ConfigError, match="llm_hidden_size"):
        GenerationTool.from_config({"use_sd": True, "sd_config": {}, "llm_config": {"hidden_size": 4}})
