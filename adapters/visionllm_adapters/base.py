"""Which base model an adapter belongs to: a fingerprint that loading can check at no cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from visionllm_sdk.model.assembly import Model

_SAMPLES: Final = 32
_LORA: Final = (".base_layer", ".original_module")
"""What the adapter library puts between a module and its parameters."""
_ADDED: Final = ("lora_", "token_adapter", "trainable_tokens")
_MATRICES: Final = ("llm.model.layers.", "_proj.")
"""Parts of the names of what quantisation changes."""


def base_fingerprint(model: Model) -> str:
    """Digests of a model's configuration and of samples of its language side (hexadecimal, 64 bits each).

    The first leaves out the matrices of the language model's layers, the second, which a quantised model does
    not have, is of these. The same checkpoint has the same ones in every number format, with and without
    adapters: values are compared as bfloat16, and what adapters add is left out.
    """
    state = model.core.state_dict()
    tensors = {_plain(name): value for name, value in state.items() if _own(name)}
    matrices = {name: value for name, value in tensors.items() if all(part in name for part in _MATRICES)}
    rest = {name: value for name, value in tensors.items() if name not in matrices}
    outline = _digest(rest, json.dumps(model.config.to_released(), sort_keys=True))
    return outline if model.placement.quantization else f"{outline}-{_digest(matrices)}"


def same_base(one: str, other: str) -> bool:
    """Whether two fingerprints are of one checkpoint, as far as both tell."""
    return all(own == its for own, its in zip(one.split("-"), other.split("-"), strict=False))


def _digest(tensors: Mapping[str, Tensor], header: str = "") -> str:
    digest = hashlib.blake2b(header.encode(), digest_size=8)
    for name in sorted(tensors):
        value = tensors[name]
        if not value.is_floating_point():
            continue
        flat = value.detach().reshape(-1)
        picked = flat[torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat))).long().to(flat.device)]
        rounded = picked.to("cpu", torch.float32).to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{tuple(value.shape)}".encode() + rounded.numpy().tobytes())
    return digest.hexdigest()


def _own(name: str) -> bool:
    return not any(part in name for part in _ADDED)


def _plain(name: str) -> str:
    for part in _LORA:
        name = name.replace(part, "")
    return name
