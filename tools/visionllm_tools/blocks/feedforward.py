"""Feed-forward networks, and blocks of rows small enough for the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

ROWS = 512
"""Rows of one block; 512 x 2,048 floats are 4 MB."""
_NARROW = 512
"""Of states up to this width blocks hold twice as many rows: smaller products do not pay."""


def spans(count: int, batch: int, *, width: int) -> Iterator[slice]:
    """Slices of a sequence of `count` so that `batch` of them hold about `ROWS` rows.

    Args:
        count: length of the sequence.
        batch: how many sequences there are.
        width: of the widest state of a row.
    """
    rows = ROWS if width > _NARROW else 2 * ROWS
    step = max(1, rows // batch)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def feed_forward(
    x: Tensor, first: nn.Linear, activation: Callable[[Tensor], Tensor], second: nn.Linear, norm: nn.LayerNorm
) -> Tensor:
    """Post-norm residual feed-forward network without dropout, (B, T, C) -> (B, T, C)."""
    return norm(second(activation(first(x))).add_(x))
