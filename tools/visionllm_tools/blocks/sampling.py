"""Bilinear samples from a feature pyramid: the inner loop of deformable attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Shapes = Sequence[tuple[int, int]]
"""Height and width of every level of the pyramid, finest first."""

_SUM = 0
"""The mode of `torch.embedding_bag`, which spares what its functional form does around it."""
_MOST_ROWS = 2**24
"""Row numbers are computed as float32, which holds whole numbers up to here."""


def in_cells(references: Tensor, shapes: Shapes, *, points: int) -> Tensor:
    """Reference points or boxes relative to each level, in its cells and once per sampled point.

    Args:
        references: (B, Q, L, 2) as (x, y) or (B, Q, L, 4) as (cx, cy, w, h).
        shapes: the pyramid.
        points: P, samples per level.

    Returns:
        (B, Q, 2 or 4, L * P).
    """
    sizes = references.new_tensor([[width, height] for height, width in shapes])
    cells = references * sizes.repeat(1, references.shape[-1] // 2)
    return cells.transpose(2, 3).repeat_interleave(points, dim=-1)


class GridMaps:
    """Maps that are read by `grid_sample`: its gradient is cheap, and it runs anywhere.

    Args:
        values: (B, S, heads, C) of all levels.
        shapes: the pyramid.
        padding: (B, S) bool, True where a token reads as zero; None when nothing is padded.
    """

    def __init__(self, values: Tensor, shapes: Shapes, *, padding: Tensor | None = None) -> None:
        self.heads = values.shape[2]
        if padding is not None:
            values = values.masked_fill(padding[:, :, None, None], 0.0)
        flat = values.permute(0, 2, 3, 1).flatten(0, 1)  # (B * heads, C, S)
        parts = flat.split([height * width for height, width in shapes], dim=2)
        self.maps = [part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]

    def sample(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of samples; zero outside of a map.

        Args:
            x: (B, Q, heads, L * P) columns in cells of each level; cell i reaches from i to i + 1.
            y: (B, Q, heads, L * P) rows.
            weights: (B, Q, heads, L * P).

        Returns:
            (B, Q, heads * C).
        """
        x, y, weights = (self._by_level(part) for part in (x, y, weights))
        sums = []
        for level, values in enumerate(self.maps):
            height, width = values.shape[-2:]
            grid = torch.stack([x[level] * (2 / width) - 1, y[level] * (2 / height) - 1], dim=-1)
            # In half precision a place of a large map would be off by most of a cell.
            exact = torch.promote_types(values.dtype, torch.float32)
            found = F.grid_sample(values.to(exact), grid.to(exact), padding_mode="zeros", align_corners=False)
            sums.append((found * weights[level][:, None]).sum(-1))  # (B * heads, C, Q)
        total = torch.stack(sums).sum(0).to(self.maps[0].dtype)
        return total.unflatten(0, (-1, self.heads)).permute(0, 3, 1, 2).flatten(2)

    def _by_level(self, part: Tensor) -> Tensor:
        """(B, Q, heads, L * P) -> (L, B * heads, Q, P)."""
        levels = part.unflatten(-1, (len(self.maps), -1))
        return levels.permute(3, 0, 2, 1, 4).flatten(1, 2)


class RowTable:
    """Rows that a fused kernel gathers and sums: on a processor more than ten times faster.

    All maps lie in one table with rows of equal length, the coarser ones side by side below the finest, each
    with a border of zeros: one cell before it and two behind. A place outside is moved onto the border, so
    that its four neighbours exist and need no mask, and are at the same four distances in every map: the same
    indices serve four shifted tables.

    Args:
        values: (B, S, heads, C) of all levels, float32; no gradient flows back.
        shapes: the pyramid.
        points: P, samples per level.
        padding: (B, S) bool, True where a token reads as zero; None when nothing is padded.
        counted: a further channel holds one where a token is, and is zero elsewhere.
    """

    def __init__(
        self,
        values: Tensor,
        shapes: Shapes,
        *,
        points: int,
        padding: Tensor | None = None,
        counted: bool = False,
    ) -> None:
        batch, _, heads, width = values.shape
        corners, lines, self.step = _corners(shapes)
        table = values.new_zeros(batch, lines, self.step, heads, width + counted)
        source = 0
        for (height, columns), (top, left) in zip(shapes, corners, strict=True):
            span = slice(source, source + height * columns)
            inner = table[:, top + 1 : top + 1 + height, left + 1 : left + 1 + columns]
            inner[..., :width] = values[:, span].unflatten(1, (height, columns))
            if counted:
                inner[..., width] = 1.0
            if padding is not None:
                inner.masked_fill_(padding[:, span].unflatten(1, (height, columns))[..., None, None], 0.0)
            source = span.stop
        self.rows = table.view(-1, width + counted)
        self.heads = heads
        self.right, self.bottom = (
            values.new_tensor([shape[axis] + 1 for shape in shapes]).repeat_interleave(points).repeat(heads)
            for axis in (1, 0)
        )  # (heads * L * P,): the first place that sees only border
        first = values.new_tensor([top * self.step + left for top, left in corners]).repeat_interleave(points)
        first = first + torch.arange(batch, device=values.device)[:, None, None] * (lines * self.step)
        head = torch.arange(heads, device=values.device)[:, None]
        self.first = (first * heads + head).flatten(1)[:, None]  # (B, 1, heads * L * P)

    def sample(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """See `GridMaps.sample`."""
        shape = x.shape
        zero = x.new_zeros(())
        x = torch.clamp(x.flatten(2) + 0.5, zero, self.right)  # in the bordered map, centres at whole numbers
        y = torch.clamp(y.flatten(2) + 0.5, zero, self.bottom)
        column, row = x.floor(), y.floor()
        x, y = x.sub_(column), y.sub_(row)
        index = torch.add(self.first, column, alpha=self.heads).add_(row, alpha=self.heads * self.step)
        rows = index.to(torch.int32).view(-1)
        bags = torch.arange(0, len(rows), shape[3], dtype=torch.int32, device=x.device)  # where each begins
        weights = weights.flatten(2)
        below = weights * y
        above = weights - below
        below_right, above_right = below * x, above * x
        shares = (above.sub_(above_right), above_right, below.sub_(below_right), below_right)
        total = torch.zeros(())
        for share, distance in zip(shares, (0, 1, self.step, self.step + 1), strict=True):
            shifted = self.rows[distance * self.heads :]
            found = torch.embedding_bag(shifted, rows, bags, mode=_SUM, per_sample_weights=share.view(-1))[0]
            total = found if distance == 0 else total.add_(found)
        return total.view(*shape[:2], -1)


def _corners(shapes: Shapes) -> tuple[list[tuple[int, int]], int, int]:
    """Row and column of each bordered map in a table, and the table's rows and columns."""
    height, width = (side + 3 for side in shapes[0])
    corners, left = [(0, 0)], 0
    for _, columns in shapes[1:]:
        corners.append((height, left))
        left += columns + 3
    below = max([rows + 3 for rows, _ in shapes[1:]] or [0])  # without a default: this may be compiled
    return corners, height + below, max(width, left)


class TokenTable:
    """Tokens that are read before they are projected: cheaper where few queries read.

    A projection is linear, so the projected samples are samples of projected tokens. Its bias counts as often
    as the samples lie on the map, which a further channel of ones tells.

    Args:
        tokens: (B, S, C), float32; no gradient flows back.
        padding: (B, S) bool, True where a token is padding, which reads as zero; None when nothing is padded.
        shapes: the pyramid.
        points: P, samples per level.
    """

    def __init__(self, tokens: Tensor, padding: Tensor | None, shapes: Shapes, *, points: int) -> None:
        self.rows = RowTable(tokens[:, :, None], shapes, points=points, padding=padding, counted=True)

    def sample(self, x: Tensor, y: Tensor, weights: Tensor, *, projection: Tensor, bias: Tensor) -> Tensor:
        """Samples of the projected tokens; see `GridMaps.sample`.

        Args:
            x: (B, Q, heads, L * P).
            y: (B, Q, heads, L * P).
            weights: (B, Q, heads, L * P).
            projection: (heads * D, C).
            bias: (heads * D,).

        Returns:
            (B, Q, heads * D).
        """
        queries, heads = x.shape[1:3]
        alone = (part.flatten(1, 2)[:, :, None] for part in (x, y, weights))  # every head is a query
        found = self.rows.sample(*alone).unflatten(1, (queries, heads))
        found = found.transpose(1, 2)  # (B, heads, Q, C + 1)
        columns = projection.unflatten(0, (heads, -1)).transpose(1, 2)  # (heads, C, D)
        read = found[..., :-1] @ columns + found[..., -1:] * bias.view(heads, 1, -1)
        return read.transpose(1, 2).flatten(2)


_BORDERED = 16
"""Cells of a table for one token: sixteen for a map of one cell with its border, fewer for larger maps."""
_GATHER = 16
"""How many multiplications of a matrix product take as long as gathering one value."""


def reads_first(queries: Tensor, tokens: Tensor, *, samples: int) -> bool:
    """Whether to read tokens before they are projected, or after.

    Args:
        queries: (B, Q, C).
        tokens: (B, S, C).
        samples: of one query, over all heads and levels.
    """
    quick = tokens.dtype == torch.float32 and not tokens.is_cuda and not torch.is_grad_enabled()
    few = queries.shape[1] * samples * 4 * _GATHER < tokens.shape[1] * tokens.shape[2]
    return quick and few and tokens.shape[:2].numel() * _BORDERED < _MOST_ROWS


def readable(
    values: Tensor, shapes: Shapes, *, points: int, padding: Tensor | None = None
) -> GridMaps | RowTable:
    """The faster of two equal ways to sample.

    Args:
        values: (B, S, heads, C) of all levels.
        shapes: the pyramid.
        points: P, samples per level.
        padding: (B, S) bool, True where a token reads as zero; None when nothing is padded.
    """
    _, lines, columns = _corners(shapes)
    too_many = values.shape[0] * values.shape[2] * lines * columns >= _MOST_ROWS
    if torch.is_grad_enabled() or values.is_cuda or values.dtype != torch.float32 or too_many:
        return GridMaps(values, shapes, padding=padding)
    return RowTable(values, shapes, points=points, padding=padding)
