"""bfloat16 inside of modules, on processors that compute it natively, and quick conv nets on all.

Residual conv nets of this project are trained under bfloat16 autocast, so nothing is lost when they are used
so: their convolutions then take a third of the time. Matrix products over all tokens of a decoder's image
gain as much; whether a checkpoint bears the rounding there, it says itself (`SdkSection.quick_products`). The
language model keeps its format: with other rows beside them, its rows would be rounded otherwise, and scores
would depend on the batch. A caller who names a number format gets that format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from visionllm_sdk.model.folding import FoldedCopy

_NATIVE = ("avx512_bf16", "amx_bf16")


class Quick(nn.Module):
    """What modules have in common that may compute in bfloat16 inside.

    Attributes:
        quick: whether they do; only on processors on which that is quick.
    """

    quick: bool = False

    def hurry(self) -> None:
        """Compute in bfloat16 from now on where that is quick."""
        self.quick = native_bfloat16()  # asked here, once: what is compiled cannot ask

    def in_a_hurry(self, x: Tensor) -> bool:
        """Whether to compute in bfloat16 now: not with gradients, nor for another format or device.

        Args:
            x: what goes in.
        """
        fitting = x.device.type == "cpu" and x.dtype == torch.float32
        return self.quick and fitting and not torch.is_grad_enabled()

    def products(self, x: Tensor) -> AbstractContextManager[object]:
        """A span in which matrix products are computed in bfloat16 where that is quick.

        Args:
            x: what goes in; what comes out may be bfloat16.
        """
        return torch.autocast("cpu", torch.bfloat16) if self.in_a_hurry(x) else nullcontext()


class QuickConvolutions(Quick):
    """The same for convolutions, whose weights and pixels are laid out for it."""

    def __init__(self) -> None:
        super().__init__()
        self._copy = FoldedCopy()

    def hurry(self) -> None:
        """See `Quick.hurry`."""
        super().hurry()
        if self.quick:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it

    @contextmanager
    def precision(self, pixels: Tensor) -> Iterator[Tensor]:
        """A span of computing in the right number format and, on the CPU, with channels last.

        With gradients always in the format of the weights, and in the layout of the pixels.

        Args:
            pixels: what goes in, (B, C, H, W).

        Yields:
            The pixels, laid out for it.
        """
        if torch.is_grad_enabled() or pixels.device.type != "cpu":
            yield pixels
            return
        with self.products(pixels):
            yield pixels.contiguous(memory_format=torch.channels_last)

    def feature_maps(self, net: nn.Module, pixels: Tensor) -> list[Tensor]:
        """What a backbone of the library makes of pixels, by its folded copy where nothing is to be learnt.

        Args:
            net: the backbone.
            pixels: (B, 3, H, W).

        Returns:
            Maps (B, C_i, H_i, W_i) in the pixels' number format; their memory may have channels last.
        """
        form = torch.bfloat16 if self.in_a_hurry(pixels) else torch.float32
        learning = torch.is_grad_enabled() or pixels.dtype != torch.float32
        copy = None if learning else self._copy.of(net, form)
        if copy is None:
            with self.precision(pixels) as shaped:
                found = net(shaped).feature_maps
        else:
            found = copy(pixels.to(form, memory_format=torch.channels_last)).feature_maps
        return [one.to(pixels.dtype) for one in found]


def hurry(module: nn.Module, *, products: bool) -> None:
    """Let all parts of a module that can compute in bfloat16 do so.

    Args:
        module: any.
        products: also the parts that are no conv nets; only for checkpoints that were checked so.
    """
    for part in module.modules():
        if isinstance(part, QuickConvolutions) or (products and isinstance(part, Quick)):
            part.hurry()


@cache
def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices by instructions of its own."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, False) for name in _NATIVE)
