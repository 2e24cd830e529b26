"""The language model: the library's Llama, also for InternLM2, whose fused weights are split on load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.documents import naming

_LLAMA_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "head_dim",
    "attention_bias",
    "attention_dropout",
    "mlp_bias",
    "bos_token_id",
    "eos_token_id",
)


def llama_config(section: Mapping[str, Any]) -> LlamaConfig:
    """The library's configuration from ``llm_config``.

    The padding id is left out: the library would freeze that row of the embedding at zero, and ``<unk>`` is a
    word of the vocabulary.
    """
    values = {name: section[name] for name in _LLAMA_FIELDS if section.get(name) is not None}
    return LlamaConfig(
        **values,
        pad_token_id=None,
        tie_word_embeddings=bool(section.get("tie_word_embeddings", False)),
        rope_parameters=_rope(section),
    )


def _rope(section: Mapping[str, Any]) -> dict[str, Any]:
    if section.get("rope_parameters"):
        return dict(section["rope_parameters"])
    scaling = dict(section.get("rope_scaling") or {})
    kind = scaling.pop("type", scaling.pop("rope_type", "default"))
    return {"rope_type": kind, "rope_theta": float(section.get("rope_theta", 10000.0)), **scaling}


def _internlm2_config(section: Mapping[str, Any]) -> LlamaConfig:
    return llama_config({**section, "attention_bias": section.get("bias", False)})


_CONFIGS: dict[str, Callable[[Mapping[str, Any]], LlamaConfig]] = {
    "llama": llama_config,
    "internlm2": _internlm2_config,
}


def build_language(config: ModelConfig) -> LlamaForCausalLM:
    """The language model of a configuration, with random weights.

    Raises:
        ConfigError: unknown ``model_type``, or a value that the library cannot use.
    """
    kind = config.language["model_type"]
    if kind not in _CONFIGS:
        raise ConfigError(
            "unknown language model", value=kind, limit=", ".join(_CONFIGS), remedy="Correct config.json."
        )
    with naming("llm_config"):
        return LlamaForCausalLM(_CONFIGS[kind](config.language))


def split_internlm2_attention(fused: Tensor, *, heads: int, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value weights from InternLM2's fused ``wqkv``.

    The rows come in groups, one per key head: its query heads, its key, its value.

    Args:
        fused: ((heads + 2 key_heads) * D, hidden)
        heads: query heads.
        key_heads: key and value heads.

    Returns:
        (heads * D, hidden), (key_heads * D, hidden), (key_heads * D, hidden)
    """
    group = heads // key_heads
    grouped = fused.unflatten(0, (key_heads, group + 2, -1))  # (key heads, group + 2, D, hidden)
    query, key, value = grouped[:, :group], grouped[:, group], grouped[:, group + 1]
    return query.flatten(0, 2), key.flatten(0, 1), value.flatten(0, 1)


def fuse_internlm2_attention(query: Tensor, key: Tensor, value: Tensor, *, key_heads: int) -> Tensor:
    """Inverse of :func:`split_internlm2_attention`, for saving in the released form.

    Args:
        query: (heads * D, hidden)
        key: (key_heads * D, hidden)
        value: (key_heads * D, hidden)
        key_heads: key and value heads.

    Returns:
        ((heads + 2 key_heads) * D, hidden)
    """
    size = key.shape[0] // key_heads
    parts = (
        query.unflatten(0, (key_heads, -1, size)),
        key.unflatten(0, (key_heads, 1, size)),
        value.unflatten(0, (key_heads, 1, size)),
    )
    return torch.cat(parts, dim=1).flatten(0, 2)
