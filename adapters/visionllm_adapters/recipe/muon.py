"""Muon for processors that do not multiply bfloat16 matrices.

torch's own orthogonalises in bfloat16, whatever the weights are. Where that is emulated, a step of the
optimiser took four times as long as everything else of a training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, overload

import torch
from torch import Tensor, nn

from visionllm_sdk.model.precision import native_bfloat16

_COEFFICIENTS: Final = (3.4445, -4.775, 2.0315)
_EPSILON: Final = 1e-7


def muon(
    matrices: Sequence[nn.Parameter], *, lr: float, momentum: float, weight_decay: float, steps: int
) -> torch.optim.Optimizer:
    """torch's Muon where bfloat16 is quick, else the same in float32.

    Args:
        matrices: what it moves.
        lr: rate of a square matrix.
        momentum: of the gradients, after Nesterov.
        weight_decay: decoupled.
        steps: of Newton and Schulz.
    """
    if native_bfloat16():
        return torch.optim.Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, ns_steps=steps)
    return Float32Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, steps=steps)


class Float32Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal (Jordan et al., 2024), as `torch.optim.Muon` does it.

    Its saved states are the same.

    Args:
        matrices: what it moves, each 2-D.
        lr: rate of a square matrix; a tall one moves more.
        momentum: of the gradients, after Nesterov.
        weight_decay: decoupled.
        steps: of Newton and Schulz.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        steps: int = 5,
    ) -> None:
        named = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "ns_steps": steps}
        super().__init__(matrices, named)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group)
        return loss

    def _move(self, matrix: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient, momentum = self.state[matrix], matrix.grad, group["momentum"]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        kept = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        step = orthogonal(gradient.lerp(kept, momentum), group["ns_steps"])
        rows, columns = matrix.shape
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(step, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))


def orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """Nearly the nearest matrix with orthonormal rows or columns, by the quintic iteration.

    Args:
        matrix: (M, N)
        steps: of the iteration.

    Returns:
        Singular values are about 0.5 to 1.5. (M, N)
    """
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix) / matrix.norm().clamp(min=_EPSILON)
    linear, cubic, quintic = _COEFFICIENTS
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(
            found, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), found, beta=linear
        )
    return found.T if tall else found
