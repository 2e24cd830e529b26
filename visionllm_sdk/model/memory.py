"""What the parts of a loaded model take in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

State = Literal["loaded", "parked", "not loaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMemory:
    """One part.

    Attributes:
        name: ``language model``, ``vision encoder``, or the name of a tool.
        parameters: number of values in the checkpoint's form.
        bytes: memory taken now; 0 for a decoder that was not used yet.
        device: where it is now, ``cuda:0``; empty if it is not loaded.
        dtype: number format of most values; empty if it is not loaded.
        state: ``loaded``; ``parked`` in main memory while another decoder works; ``not loaded``.
    """

    name: str
    parameters: int
    bytes: int
    device: str
    dtype: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """All parts. ``print(report)`` shows a table."""

    parts: tuple[PartMemory, ...]

    @property
    def bytes(self) -> int:
        """Of all parts together."""
        return sum(part.bytes for part in self.parts)

    @property
    def devices(self) -> dict[str, int]:
        """Bytes by device."""
        totals: Counter[str] = Counter()
        for part in self.parts:
            if part.bytes:
                totals[part.device] += part.bytes
        return dict(totals)

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe data."""
        parts = [asdict(part) for part in self.parts]
        return {"parts": parts, "bytes": self.bytes, "devices": self.devices}

    def __getitem__(self, name: str) -> PartMemory:
        return next(part for part in self.parts if part.name == name)

    def __str__(self) -> str:
        rows = [("part", "parameters", "MB", "device", "dtype", "state")]
        rows += [
            (
                part.name,
                f"{part.parameters:,}",
                f"{part.bytes / 1e6:,.1f}",
                part.device,
                part.dtype,
                part.state,
            )
            for part in self.parts
        ]
        rows.append(("total", "", f"{self.bytes / 1e6:,.1f}", "", "", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def measure(
    name: str, module: nn.Module, *, parameters: int | None = None, parked: bool = False
) -> PartMemory:
    """What a module takes; tensors under several names count once.

    Args:
        name: of the part.
        module: loaded.
        parameters: number of values, where the module's own number is not that of the checkpoint.
        parked: it waits in main memory.
    """
    tensors = list(_tensors(module))
    formats: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    for tensor in tensors:
        formats[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
        devices[str(tensor.device)] += tensor.nbytes
    own = sum(parameter.numel() for parameter in module.parameters())
    return PartMemory(
        name=name,
        parameters=own if parameters is None else parameters,
        bytes=sum(tensor.nbytes for tensor in tensors),
        device=max(devices, key=lambda key: devices[key], default=""),
        dtype=max(formats, key=lambda key: formats[key], default=""),
        state="parked" if parked else "loaded",
    )


def absent(name: str, parameters: int) -> PartMemory:
    """A decoder that was not used yet."""
    return PartMemory(name=name, parameters=parameters, bytes=0, device="", dtype="", state="not loaded")


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
    for parameter in module.parameters():
        # Scales of quantised matrices hang on their parameter.
        scales = getattr(getattr(parameter, "quant_state", None), "absmax", None)
        for extra in (scales, getattr(parameter, "SCB", None)):
            if isinstance(extra, Tensor):
                yield extra
