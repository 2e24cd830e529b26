"""Building modules whose parameters are about to be replaced: no random start, no memory touched.

Under torch's meta device, buffers that no checkpoint stores (position indices, noise schedules) would be
lost. Here modules are built on the CPU, buffers get their values, and only what would fill a parameter is
left out: memory that nobody writes to is never taken from the system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

_HARMLESS = frozenset({"requires_grad_", "retain_grad_"})


class ParametersStayEmpty(TorchFunctionMode):
    """While active, nothing writes into a parameter as a whole; parameters hold arbitrary values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave out in-place functions of a parameter; do everything else."""
        del types
        named = kwargs or {}
        if _writes(getattr(func, "__name__", "")):
            filled = args[0] if args else named.get("tensor")
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **named)


def _writes(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__") and name not in _HARMLESS
