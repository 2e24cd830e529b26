"""Which base model an adapter belongs to: a fingerprint that loading can check at no cost."""

from __future__ import annotations

import hashlib
import json
from typing import Final

import torch

from visionllm_sdk.model.assembly import Model

_SAMPLES: Final = 32
_LORA: Final = (".base_layer", ".original_module")
"""What the adapter library puts between a module and its parameters."""
_ADDED: Final = ("lora_", "token_adapter", "trainable_tokens")


def base_fingerprint(model: Model) -> str:
    """Digest of a model's configuration and of samples of its language side (hexadecimal, 128 bits).

    The same checkpoint has the same fingerprint in every number format, with and without adapters: values
    are compared as bfloat16, and what adapters add is left out.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(model.config.to_released(), sort_keys=True).encode())
    tensors = {_plain(name): value for name, value in model.core.state_dict().items() if _own(name)}
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
