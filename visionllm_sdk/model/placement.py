"""Where the parts of a model go, and in which number format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

import torch

from visionllm_sdk.errors import ConfigError

LANGUAGE: Final = "language"
"""The language side: vision encoder, bridge, region encoder, query tables, language model."""
DECODERS: Final = "decoders"
"""All decoders that are not named by themselves."""

Quantization: TypeAlias = Literal["int8", "int4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the parts of a model go.

    Attributes:
        device: of every part that `parts` does not name.
        dtype: number format; None takes float32 on the CPU and bfloat16 elsewhere, and lets residual conv
            nets on the CPU compute in bfloat16 where the processor does (`visionllm_sdk.model.precision`).
        parts: device by part: ``"language"``, ``"decoders"``, or the name of a tool.
        quantization: number format of the language model's matrices, ``"int8"`` or ``"int4"``; None leaves
            them in `dtype`.
        offload: a decoder waits in main memory while another one is at work.
        compiled: decode single conversations by a compiled step, and compile the parts of decoders that their
            tools name.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None
    parts: Mapping[str, torch.device] = field(default_factory=dict)
    quantization: Quantization | None = None
    offload: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.quantization not in (None, *get_args(Quantization)):
            raise ConfigError(
                "unknown quantization of the language model",
                value=self.quantization,
                limit=", ".join(get_args(Quantization)),
                remedy="Leave it out for full precision.",
            )

    def check_parts(self, tools: Iterable[str]) -> None:
        """Refuse parts that the model does not have.

        Raises:
            ConfigError: an unknown name.
        """
        known = (LANGUAGE, DECODERS, *tools)
        unknown = sorted(set(self.parts) - set(known))
        if unknown:
            raise ConfigError(
                "device_map names parts that this model does not have",
                value=unknown,
                limit=", ".join(known),
                remedy="Correct the names, or load the tool.",
            )

    def language(self) -> Place:
        """Place of the language side."""
        return self._place(self.parts.get(LANGUAGE, self.device))

    def decoder(self, name: str) -> Place:
        """Place of a tool's decoder."""
        return self._place(self.parts.get(name, self.parts.get(DECODERS, self.device)))

    def _place(self, device: torch.device) -> Place:
        return Place(device=device, dtype=self.dtype or default_dtype(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Device and number format of one part."""

    device: torch.device
    dtype: torch.dtype


def default_dtype(device: torch.device) -> torch.dtype:
    """float32 on the CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16
