"""Symbolic scenes: what the language model sees before it has eyes.

A scene becomes one token per object, placed at the position of the patch that holds the object's centre.
Drawing nothing, thousands of scenes a second can be thought up, which is what grounded questions need.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import torch
from torch import Tensor, nn

from visionllm_sdk.model.tiling import canvas_of
from visionllm_sdk.scenes.facts import COLOURS, FIGURES, SHAPES, SIZE_RANGES, SIZES, ObjectFacts, SceneFacts

GRID: Final = 8
MAX_STRETCH: Final = 1.4
"""What the embedded model's tile stretches a picture at most, see `visionllm_sdk.model.tiling.canvas_of`."""
KINDS: Final = (*SHAPES, *FIGURES)
_EXTENT: Final = {
    "person": (0.35, 0.75, 0.9, 1.0),
    "dog": (0.85, 1.0, 0.55, 0.9),
    "diamond": (0.6, 1.0, 0.6, 1.0),
}


def random_scene(rng: Random, *, most: int = 8) -> SceneFacts:
    """A scene thought up without drawing it: kinds, colours, sizes and nearly disjoint boxes.

    Args:
        rng: decides everything.
        most: largest number of objects.
    """
    ratio = rng.choice((1.0, rng.uniform(1 / 3, 1), rng.uniform(1, 3), rng.uniform(0.7, 1.4)))
    width, height = round(256 * max(1.0, ratio)), round(256 * max(1.0, 1 / ratio))
    side = min(width, height)
    colours = rng.sample(COLOURS, rng.randint(1, 4)) if rng.random() < 0.5 else COLOURS
    kinds = rng.sample(KINDS, rng.randint(1, 4)) if rng.random() < 0.5 else KINDS
    objects: list[ObjectFacts] = []
    wanted = rng.randint(1, most)
    for _ in range(4 * wanted):
        thing = _random_object(rng, width, height, side, rng.choice(kinds), rng.choice(colours))
        if all(_overlap(thing, other) < 0.25 for other in objects):
            objects.append(thing)
        if len(objects) == wanted:
            break
    return SceneFacts(width, height, tuple(objects))


def _random_object(rng: Random, width: int, height: int, side: int, kind: str, colour: str) -> ObjectFacts:
    size = rng.choice(SIZES)
    diameter = side * rng.uniform(*SIZE_RANGES[size])
    wide, wider, tall, taller = _EXTENT.get(kind, (0.8, 1.0, 0.8, 1.0))
    w, h = diameter * rng.uniform(wide, wider), diameter * rng.uniform(tall, taller)
    x, y = rng.uniform(w / 2, width - w / 2), rng.uniform(h / 2, height - h / 2)
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    return ObjectFacts(kind, None if kind in FIGURES else colour, size, box, diameter)


def _overlap(one: ObjectFacts, other: ObjectFacts) -> float:
    """Intersection over the smaller box's area."""
    w = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    h = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one.box, other.box)]
    return max(0.0, w) * max(0.0, h) / min(areas)


def relative_box(thing: ObjectFacts, scene: SceneFacts) -> tuple[float, float, float, float]:
    """(centre x, centre y, width, height), each as a share of the canvas."""
    x1, y1, x2, y2 = thing.box
    return (
        (x1 + x2) / 2 / scene.width,
        (y1 + y2) / 2 / scene.height,
        (x2 - x1) / scene.width,
        (y2 - y1) / scene.height,
    )


def cell_of(thing: ObjectFacts, scene: SceneFacts, grid: int = GRID) -> int:
    """Index (row by row) of the patch that holds the centre."""
    x, y, _, _ = relative_box(thing, scene)
    left, top, width, height = canvas_of(scene.width, scene.height, max_stretch=MAX_STRETCH).frame
    x, y = left + width * x, top + height * y
    return min(grid - 1, int(y * grid)) * grid + min(grid - 1, int(x * grid))


def symbol_features(scene: SceneFacts) -> tuple[list[list[int]], list[list[float]], list[int]]:
    """Per object: [kind, colour, size] indices, relative box, and cell. Figures have the colour index 10."""
    attributes, boxes, cells = [], [], []
    for thing in scene.objects:
        colour = COLOURS.index(thing.colour) if thing.colour else len(COLOURS)
        attributes.append([KINDS.index(thing.kind), colour, SIZES.index(thing.size)])
        boxes.append(list(relative_box(thing, scene)))
        cells.append(cell_of(thing, scene))
    return attributes, boxes, cells


def fourier(values: Tensor, bands: int = 6) -> Tensor:
    """(..., n) in [0, 1] -> (..., n * 2 * bands): sines and cosines of growing frequency."""
    angles = values[..., None] * (2.0 ** torch.arange(bands, device=values.device)) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class SymbolEncoder(nn.Module):
    """Object symbols and empty cells -> the vectors that stand in for image tokens.

    Args:
        width: size of the language model's embeddings (C).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(KINDS), width)
        self.colour = nn.Embedding(len(COLOURS) + 1, width)
        self.size = nn.Embedding(len(SIZES), width)
        self.place = nn.Embedding(9, width)
        self.box = nn.Sequential(nn.Linear(4 * 12, width), nn.GELU(), nn.Linear(width, width))
        self.empty = nn.Embedding(1, width)
        for table in (self.kind, self.colour, self.size, self.place, self.empty):
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, attributes: Tensor, boxes: Tensor) -> Tensor:
        """(N, 3) long and (N, 4) relative boxes -> (N, C)."""
        kind, colour, size = attributes.unbind(-1)
        columns, rows = (boxes[..., :2] * 3).long().clamp(0, 2).unbind(-1)
        words = self.kind(kind) + self.colour(colour) + self.size(size) + self.place(rows * 3 + columns)
        return words + self.box(fourier(boxes))

    def grid(self, attributes: Sequence[Tensor], boxes: Sequence[Tensor], cells: Sequence[Tensor]) -> Tensor:
        """Per scene its objects -> (B, GRID * GRID, C); objects that share a cell are added."""
        rows = []
        for a, b, c in zip(attributes, boxes, cells, strict=True):
            row = self.empty.weight.expand(GRID * GRID, -1).clone()
            if len(c):
                filled = torch.zeros_like(row).index_add(0, c, self(a, b))
                taken = torch.zeros(GRID * GRID, 1).index_fill(0, c, 1.0)
                row = row * (1 - taken) + filled
            rows.append(row)
        return torch.stack(rows)


class RegionSymbols(nn.Module):
    """Marked objects -> the vectors that stand in for region prompts before there are pictures.

    Args:
        width: size of the language model's embeddings (C).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.what = nn.Linear(width, width)
        self.where = nn.Linear(4 * 12, width)

    def forward(self, symbols: SymbolEncoder, attributes: Tensor, boxes: Tensor) -> Tensor:
        """Objects (R, 3) long and boxes of the marks (R, 4), relative -> (R, C)."""
        kind, colour, size = attributes.unbind(-1)
        words = symbols.kind(kind) + symbols.colour(colour) + symbols.size(size)
        return torch.as_tensor(self.what(words) + self.where(fourier(boxes)))


def mark_box(box: Sequence[float], rng: Random) -> list[float]:
    """The box of what a user draws on an object: all of it, roughly, or a point, or a part.

    Args:
        box: of the object, relative (cx, cy, w, h).
        rng: chooses how the object is marked.
    """
    x, y, w, h = box
    roll = rng.random()
    if roll < 0.5:
        off = [rng.uniform(-0.04, 0.04) for _ in range(4)]
        return [x + w * off[0], y + h * off[1], w * (1 + off[2]), h * (1 + off[3])]
    if roll < 0.75:
        pen = 3 / 256
        return [x + w * rng.uniform(-0.3, 0.3), y + h * rng.uniform(-0.3, 0.3), pen, pen]
    wide, high = rng.uniform(0.15, 0.9), rng.uniform(0.15, 0.9)
    across, down = (rng.uniform(-1, 1) * (1 - share) / 2 for share in (wide, high))
    return [x + w * across, y + h * down, w * wide, h * high]
