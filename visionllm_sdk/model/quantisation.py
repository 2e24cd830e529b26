"""The language model's matrices in 8 or 4 bits, through the bitsandbytes library (optional)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from visionllm_sdk.extras import import_extra
from visionllm_sdk.model.checkpoint import Maker
from visionllm_sdk.model.placement import Quantization

EXTRA = "quant"
_OUTLIERS = 6.0  # threshold of LLM.int8() (Dettmers et al. 2022, section 3)


def quantise(language: LlamaForCausalLM, kind: Quantization, dtype: torch.dtype) -> None:
    """Put quantising layers in place of the decoder layers' linear ones, before their weights are loaded.

    Embedding and output layer stay as they are: routing tokens hang on small differences between rows.

    Args:
        language: without weights; is changed.
        kind: ``int8`` (LLM.int8) or ``int4`` (NF4).
        dtype: number format of the computation.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    make = _LAYERS[kind]
    library = import_extra("bitsandbytes", extra=EXTRA)
    for layer in language.model.layers:
        for path, linear in list(layer.named_modules()):
            if isinstance(linear, nn.Linear):
                parent, _, name = path.rpartition(".")
                setattr(layer.get_submodule(parent), name, make(library.nn, linear, dtype))


def quantised_makers() -> Mapping[type[nn.Parameter], Maker]:
    """How the parameters of quantising layers are made from stored tensors.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    library = import_extra("bitsandbytes", extra=EXTRA)
    return {library.nn.Int8Params: _int8, library.nn.Params4bit: _int4}


def _int8_layer(library: Any, linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    del dtype  # the layer computes in the format of its input
    layer: nn.Module = library.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=_OUTLIERS,
    )
    return layer.requires_grad_(False)


def _int4_layer(library: Any, linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    layer: nn.Module = library.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
    )
    return layer.requires_grad_(False)


_LAYERS: Mapping[Quantization, Callable[[Any, nn.Linear, torch.dtype], nn.Module]] = {
    "int8": _int8_layer,
    "int4": _int4_layer,
}


def _int8(stored: Tensor, old: Any, device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    parameter = type(old)(stored.to(dtype).contiguous(), requires_grad=False, has_fp16_weights=False)
    made: nn.Parameter = parameter.to(device)  # quantises on the way
    return made


def _int4(stored: Tensor, old: Any, device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    parameter = type(old)(
        stored.to(dtype).contiguous(), requires_grad=False, quant_type=old.quant_type, module=old.module
    )
    made: nn.Parameter = parameter.to(device)  # quantises on the way
    return made
