"""Stand-ins for the super-links of drawing: they say what is asked for, before the language model can.

Both give an 8 x 8 grid of conditioning tokens over the picture, row by row. In the joint stage the language
model's queries, through the decoder's mapper, learn to say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from visionllm_adapters.recipe.layouts import (
    ANY_COLOUR,
    ANY_KIND,
    ANY_PLACE,
    ANY_SIZE,
    CELLS,
    OPERATIONS,
    Layout,
    index_of,
)
from visionllm_sdk.scenes.drawing_language import EditWords
from visionllm_sdk.scenes.expressions import cell_centre
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, SHAPES, SIZES

GRID: Final = 8
TOKENS: Final = GRID * GRID
WIDTH: Final = 96
_GEOMETRY: Final = 8
_RIM: Final = 0.08
_SOFTNESS: Final = 0.03
_PLACE_EXTENT: Final = 0.34
WORDS: Final = (
    len(OPERATIONS), ANY_KIND + 1, ANY_COLOUR + 1, ANY_SIZE + 1, ANY_KIND + 1, ANY_COLOUR + 1, ANY_PLACE + 1,
)  # fmt: skip
"""How many words there are for each part of an instruction; the last of each is none."""


def layout_tensors(layouts: Sequence[Layout]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Numbers of layouts for `SceneTokens`.

    Returns:
        kinds (B, N) long, colours (B, N) long, boxes (B, N, 4) cxcywh shares, valid (B, N) bool,
        backgrounds (B,) long.
    """
    batch, most = len(layouts), max(1, max(len(layout.things) for layout in layouts))
    kinds = torch.full((batch, most), ANY_KIND)
    colours = torch.full((batch, most), ANY_COLOUR)
    boxes, valid = torch.full((batch, most, 4), 0.5), torch.zeros(batch, most, dtype=torch.bool)
    for row, layout in enumerate(layouts):
        for column, thing in enumerate(layout.things):
            kinds[row, column] = index_of(thing.kind, SHAPES)
            colours[row, column] = index_of(thing.colour, BACKGROUND_COLOURS)
            boxes[row, column] = torch.tensor(thing.box)
            valid[row, column] = True
    backgrounds = torch.tensor([index_of(layout.background, BACKGROUND_COLOURS) for layout in layouts])
    return kinds, colours, boxes, valid, backgrounds


def order_tensors(orders: Sequence[EditWords]) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of instructions for `EditTokens`.

    Returns:
        words (B, 7) long: operation, kind, colour, size, new kind, new colour, place (see `WORDS`);
        boxes (B, 4) cxcywh shares of the named place, placed (B,) bool.
    """
    words = torch.tensor(
        [
            (
                OPERATIONS.index(order.operation),
                index_of(order.kind, SHAPES),
                index_of(order.colour, BACKGROUND_COLOURS),
                index_of(order.size, SIZES),
                index_of(order.new_kind, SHAPES),
                index_of(order.new_colour, BACKGROUND_COLOURS),
                index_of(order.place, CELLS),
            )
            for order in orders
        ]
    )
    centres = [(0.5, 0.5) if order.place is None else cell_centre(order.place) for order in orders]
    boxes = torch.tensor([(x, y, _PLACE_EXTENT, _PLACE_EXTENT) for x, y in centres])
    return words, boxes, torch.tensor([order.place is not None for order in orders])


class SceneTokens(nn.Module):
    """Layout -> conditioning: each token tells what is around its place.

    Args:
        width: channels of a token (C).
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.kinds = nn.Embedding(ANY_KIND + 1, width)
        self.colours = nn.Embedding(ANY_COLOUR + 1, width)
        self.backgrounds = nn.Embedding(ANY_COLOUR + 1, width)
        self.mix = _mix(width + _GEOMETRY, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, kinds: Tensor, colours: Tensor, boxes: Tensor, valid: Tensor, backgrounds: Tensor
    ) -> Tensor:
        """See `layout_tensors`; (B, 64, C)."""
        looks = self.kinds(kinds) + self.colours(colours)  # (B, N, C)
        geometry, gate = _around(boxes)  # (B, N, 64, 8), (B, N, 64)
        looks = looks[:, :, None].expand(-1, -1, TOKENS, -1)
        said = looks + self.mix(torch.cat([looks, geometry], dim=-1))
        weight = gate * valid[..., None]
        tokens: Tensor = self.norm(self.backgrounds(backgrounds)[:, None] + (said * weight[..., None]).sum(1))
        return tokens


class EditTokens(nn.Module):
    """Words of an instruction -> conditioning: what to do and where, and once more at the named place.

    Every token says the place. What only the tokens around it say would be a thousandth of all that varies:
    the language model would not learn it, and things would be added at several places at once.

    Args:
        width: channels of a token (C).
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.words = nn.ModuleList([nn.Embedding(size, width) for size in WORDS])
        self.all = _mix(width, width)
        self.mix = _mix(width + _GEOMETRY, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, boxes: Tensor, placed: Tensor) -> Tensor:
        """See `order_tensors`; (B, 64, C)."""
        tables = zip(self.words, words.unbind(-1), strict=True)
        said = torch.stack([table(index) for table, index in tables]).sum(0)  # (B, C)
        geometry, gate = _around(boxes[:, None])  # (B, 1, 64, 8), (B, 1, 64)
        local = self.mix(torch.cat([said[:, None].expand(-1, TOKENS, -1), geometry[:, 0]], dim=-1))
        weight = gate[:, 0] * placed[:, None]
        tokens: Tensor = self.norm((said + self.all(said))[:, None] + local * weight[..., None])
        return tokens


def _mix(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def _around(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Where each token lies as seen from each box (B, N, 64, 8), and whether it is on it, 0..1 (B, N, 64)."""
    line = (torch.arange(GRID, dtype=boxes.dtype, device=boxes.device) + 0.5) / GRID
    y, x = torch.meshgrid(line, line, indexing="ij")
    cells = torch.stack([x.flatten(), y.flatten()], dim=-1)  # (64, 2)
    away = cells - boxes[..., None, :2]  # (B, N, 64, 2)
    extent = boxes[..., None, 2:].expand_as(away)
    relative = (away / extent).clamp(-1.5, 1.5)
    gate = torch.sigmoid((extent / 2 + _RIM - away.abs()) / _SOFTNESS).prod(dim=-1)
    return torch.cat([relative, relative.square(), 8 * away.clamp(-0.5, 0.5), 4 * extent], dim=-1), gate
