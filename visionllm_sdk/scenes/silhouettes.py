"""Telling shapes apart by their silhouettes: comparison with drawn templates of every shape.

A silhouette is brought to one position and size by its centre and spread, so that only form and rotation are
left to compare; the templates are the scene generator's own contours, drawn as small as what is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from visionllm_sdk.scenes.facts import SHAPES
from visionllm_sdk.scenes.layers import coverage
from visionllm_sdk.scenes.spec import ObjectSpec

Cover = NDArray[np.float32]
"""(h, w) share of each pixel that a shape covers, 0..1."""

_GRID: Final = 28
_REACH: Final = 2.3  # half the grid in units of the silhouette's root-mean-square radius
_SOURCE_SIZES: Final = (11.0, 17.0, 30.0)  # diameters in pixels: templates must be as blurred as what is seen
_PROPORTIONS: Final = (0.08, 0.36, 0.64, 0.92)
_TURN_STEP: Final = 7.5
_SYMMETRY: Final = {
    "circle": 0.0, "ring": 0.0, "square": 90.0, "cross": 90.0, "diamond": 180.0, "star": 72.0,
    "pentagon": 72.0, "triangle": 360.0, "heart": 360.0, "crescent": 360.0,
}  # fmt: skip
"""Degrees after which a shape looks the same; 0: always. A triangle's is 360 because it may be slim."""
_ONE_FORM: Final = frozenset({"circle", "square", "pentagon"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a silhouette looks like most.

    Attributes:
        kind: the shape.
        overlap: intersection over union with the best template, 0..1.
        lead: by how much that beats the best template of any other shape.
        diameter: of the shape, in pixels, as `ObjectSpec.diameter` counts it.
    """

    kind: str
    overlap: float
    lead: float
    diameter: float


@dataclass(frozen=True, slots=True, eq=False)
class _Bank:
    """Templates of one source size: (T, cells) covers, (T,) positions in SHAPES, (T,) diameter by radius."""

    covers: NDArray[np.float32]
    kinds: NDArray[np.int64]
    ratios: NDArray[np.float64]


def classify(cover: Cover) -> Likeness | None:
    """The shape whose template covers a silhouette best; None for less than three pixels."""
    if float(cover.sum()) < 3:
        return None
    seen, radius = _normalised(cover)
    bank = _bank(min(_SOURCE_SIZES, key=lambda size: abs(size - 3 * radius)))
    shared = np.minimum(bank.covers, seen).sum(axis=1)
    overlap = shared / (bank.covers.sum(axis=1) + seen.sum() - shared)
    best = int(overlap.argmax())
    others = overlap[bank.kinds != bank.kinds[best]]
    return Likeness(
        kind=SHAPES[bank.kinds[best]],
        overlap=float(overlap[best]),
        lead=float(overlap[best] - others.max()),
        diameter=float(bank.ratios[best] * radius),
    )


def _normalised(cover: Cover) -> tuple[NDArray[np.float32], float]:
    """The silhouette on the common grid, flat, and its root-mean-square radius in pixels."""
    rows, columns = np.mgrid[: cover.shape[0], : cover.shape[1]].astype(np.float64)
    weight = cover / cover.sum()
    y, x = float((rows * weight).sum()), float((columns * weight).sum())
    radius = float(np.sqrt((((rows - y) ** 2 + (columns - x) ** 2) * weight).sum()))
    steps = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    offsets = steps * _REACH * max(radius, 0.5)
    places = np.stack(np.broadcast_arrays(y + offsets[:, None], x + offsets[None, :]))
    grid = ndimage.map_coordinates(cover, places, order=1, mode="constant")
    return grid.ravel().astype(np.float32), radius


@cache
def _bank(size: float) -> _Bank:
    covers, kinds, ratios = [], [], []
    for index, kind in enumerate(SHAPES):
        period = _SYMMETRY[kind]
        turns = np.arange(0, period, _TURN_STEP) if period else [0.0]
        for proportion in (0.5,) if kind in _ONE_FORM else _PROPORTIONS:
            for turn in turns:
                cover, radius = _normalised(_drawn(kind, proportion, float(turn), size))
                covers.append(cover)
                kinds.append(index)
                ratios.append(size / radius)
    return _Bank(np.stack(covers), np.array(kinds), np.array(ratios))


def _drawn(kind: str, proportion: float, turn: float, size: float) -> Cover:
    item = ObjectSpec(
        kind=kind,
        colour="red",
        rgb=(255, 0, 0),
        size="medium",
        centre=(size, size),
        diameter=size,
        rotation=turn,
        proportion=proportion,
    )
    return coverage(item)[2]
