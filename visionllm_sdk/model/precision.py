"""Convolutions in bfloat16 on processors that compute it natively.

Residual conv nets of this project are trained under bfloat16 autocast, so nothing is lost when they are used
so: their convolutions then take a third of the time. A caller who names a number format gets that format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_NATIVE = ("avx512_bf16", "amx_bf16")


class QuickConvolutions(nn.Module):
    """What modules have in common whose convolutions may be computed in bfloat16.

    Attributes:
        quick: whether they are; only on processors on which that is quick.
    """

    quick: bool = False

    def hurry(self) -> None:
        """Compute in bfloat16 from now on where that is quick, with weights laid out for it."""
        self.quick = native_bfloat16()  # asked here, once: what is compiled cannot ask
        if self.quick:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it

    @contextmanager
    def precision(self, pixels: Tensor) -> Iterator[Tensor]:
        """A span of computing in the right number format; with gradients always in that of the weights.

        Args:
            pixels: what goes in, (B, C, H, W).

        Yields:
            The pixels, laid out for it.
        """
        fitting = pixels.device.type == "cpu" and pixels.dtype == torch.float32
        if not self.quick or not fitting or torch.is_grad_enabled():
            yield pixels
            return
        with torch.autocast("cpu", torch.bfloat16):
            yield pixels.contiguous(memory_format=torch.channels_last)


def hurry(module: nn.Module) -> None:
    """Let all parts of a module that can compute in bfloat16 do so."""
    for part in module.modules():
        if isinstance(part, QuickConvolutions):
            part.hurry()


@cache
def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices by instructions of its own."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, False) for name in _NATIVE)
