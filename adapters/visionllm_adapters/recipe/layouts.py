"""What a caption or an instruction asks for, laid out: the exact meaning that conditioning has to carry.

A caption leaves open where things stand. `plan_layout` closes it the same way every time, so that the
language model can learn to say the plan, and the denoiser to draw it; chance comes back in through the noise,
which decides shades, turns and small shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.scenes.checker import Asked, AskedObject
from visionllm_sdk.scenes.expressions import PLACES, RELATIONS, cell_centre
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, SHAPES, SIZES

Box = tuple[float, float, float, float]
"""Centre x, centre y, width, height as shares of the picture."""
OPERATIONS: Final = ("recolour", "remove", "add", "background")

EXTENTS: Final = {"small": 0.13, "medium": 0.24, "large": 0.42}
_BY_COUNT: Final = (0.42, 0.36, 0.3, 0.26)
_GAP: Final = 0.09
CELLS: Final = tuple(cell for row in PLACES for cell in row)


@dataclass(frozen=True, slots=True)
class Spot:
    """One thing of a layout: words, or None for "whatever", and its box."""

    kind: str
    colour: str | None
    box: Box


@dataclass(frozen=True, slots=True)
class Layout:
    """Things with their boxes, and the background's colour word or None for "whatever"."""

    things: tuple[Spot, ...]
    background: str | None


def plan_layout(asked: Asked, *, aspect: float = 1.0) -> Layout:
    """The layout of an order: as asked, well apart, near the middle, and in reading order where it is free.

    Args:
        asked: the order.
        aspect: width over height of the picture.
    """
    places = _places(len(asked.objects))
    best = places[int(_costs(asked, places).argmin())]
    wide, high = (1 / aspect, 1.0) if aspect > 1 else (1.0, aspect)
    things = []
    for one, (x, y) in zip(asked.objects, best.tolist(), strict=True):
        extent = _extent(one, len(best))
        things.append(Spot(one.kind, one.colour, (x, y, extent * wide, extent * high)))
    return Layout(tuple(things), asked.background)


def _extent(one: AskedObject, count: int) -> float:
    return EXTENTS[one.size] if one.size else _BY_COUNT[count - 1]


@cache
def _places(count: int) -> NDArray[np.float32]:
    """All ways to lay `count` things on the grid, (P, count, 2)."""
    cells = [cell_centre(place) for place in CELLS]
    return np.array(list(product(cells, repeat=count)), dtype=np.float32)


def _costs(asked: Asked, places: NDArray[np.float32]) -> NDArray[np.float32]:
    """How badly each way fits, (P,)."""
    extents = [_extent(one, len(asked.objects)) for one in asked.objects]
    cost = 0.3 * np.abs(places - 0.5).sum(axis=(1, 2))
    for index, one in enumerate(asked.objects):
        if one.place is not None:
            cost = cost + 100 * np.abs(places[:, index] - cell_centre(one.place)).sum(axis=-1)
        for other in range(index):
            distance = np.linalg.norm(places[:, index] - places[:, other], axis=-1)
            apart = (extents[index] + extents[other]) / 2 + _GAP
            cost = cost + 60 * np.maximum(0, apart - distance)
    related = {(relation.first, relation.second) for relation in asked.relations}
    for relation in asked.relations:
        axis, sign = RELATIONS[relation.relation]
        gap = places[:, relation.first] - places[:, relation.second]
        cost = cost + 100 * (gap[:, axis] * sign < 0.2) - 0.5 * np.abs(gap[:, axis])
        cost = cost + np.abs(gap[:, 1 - axis])
    for index in range(1, len(asked.objects)):
        if (index - 1, index) not in related:
            gap = places[:, index] - places[:, index - 1]
            cost = cost - gap[:, 0] - 0.2 * gap[:, 1] + 0.5 * np.abs(gap[:, 1])
    found: NDArray[np.float32] = cost
    return found


# ---- numbers for the encoders ----

ANY_KIND, ANY_COLOUR, ANY_SIZE, ANY_PLACE = len(SHAPES), len(BACKGROUND_COLOURS), len(SIZES), len(CELLS)


def index_of(word: str | None, words: Sequence[str]) -> int:
    """Position of a word; one past the end for None."""
    return len(words) if word is None else words.index(word)
