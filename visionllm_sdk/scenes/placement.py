"""Finding room on the canvas, so that everything stays recognisable."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.layers import coverage
from visionllm_sdk.scenes.options import SceneOptions
from visionllm_sdk.scenes.outlines import reach
from visionllm_sdk.scenes.palette import Lab, difference, lab
from visionllm_sdk.scenes.render import on_canvas
from visionllm_sdk.scenes.spec import RGB, ObjectSpec, Point

_TOUCHING_COLOURS = 25.0
"""Least colour difference of two objects that touch; otherwise their border could not be seen."""
_SMALL, _SMALL_OCCLUSION = 20.0, 0.15
"""Objects of fewer pixels across may be hidden less: there is too little of them to guess from."""


class Placement:
    """The objects placed so far, with what is still visible of each."""

    def __init__(self, width: int, height: int, options: SceneOptions, *, overlap: bool) -> None:
        self.items: list[ObjectSpec] = []
        self._size = width, height
        self._options = options
        self._overlap = overlap
        self._full: list[int] = []
        self._visible: list[NDArray[np.bool_] | None] = []
        self._candidate: NDArray[np.bool_] | None = None

    def spot(self, dice: Dice, item: ObjectSpec) -> Point:
        """A random centre; mostly with the whole object on the canvas."""
        margin = _reach(item) * (0.75 if self._options.max_cut and dice.chance(0.12) else 1.02)
        x, y = (dice.uniform(margin, max(side - margin, margin)) for side in self._size)
        return round(x, 2), round(y, 2)

    def fits(self, item: ObjectSpec) -> bool:
        """Whether the object, laid on top, leaves itself and all others recognisable."""
        self._candidate = None
        near = [index for index, other in enumerate(self.items) if _near(item, other)]
        if near and not self._overlap:
            return False
        if not near and self._inside(item):
            return True
        mask, area = self._mask(item)
        if mask.sum() < (1 - self._options.max_cut) * area:
            return False
        self._candidate = mask
        return all(self._stays_visible(index, item, mask) for index in near)

    def accept(self, item: ObjectSpec) -> None:
        """Lays the object on top."""
        mask = self._candidate
        near = [index for index, other in enumerate(self.items) if _near(item, other)]
        if near and mask is None:
            mask, _ = self._mask(item)
        for index in near:
            visible, _ = self._seen(index)
            assert mask is not None
            self._visible[index] = visible & ~mask
        self.items.append(item)
        self._full.append(int(mask.sum()) if mask is not None else 0)
        self._visible.append(mask)
        self._candidate = None

    def _stays_visible(self, index: int, item: ObjectSpec, mask: NDArray[np.bool_]) -> bool:
        visible, full = self._seen(index)
        left = int((visible & ~mask).sum())
        if left == int(visible.sum()):
            return True
        other = self.items[index]
        allowed = self._options.max_occlusion if other.diameter >= _SMALL else _SMALL_OCCLUSION
        return left >= (1 - min(allowed, self._options.max_occlusion)) * full and _differ(item, other)

    def _seen(self, index: int) -> tuple[NDArray[np.bool_], int]:
        """What is visible of an object now, and its pixels on the canvas with nothing above."""
        visible = self._visible[index]
        if visible is None:
            visible, _ = self._mask(self.items[index])
            self._visible[index], self._full[index] = visible, int(visible.sum())
        return visible, self._full[index]

    def _mask(self, item: ObjectSpec) -> tuple[NDArray[np.bool_], int]:
        """The object's (H, W) pixels on the canvas and their number with no border."""
        width, height = self._size
        left, top, alpha = coverage(item)
        solid = alpha > 0.5
        mask = np.zeros((height, width), dtype=bool)
        target, crop = on_canvas(left, top, solid.shape, mask.shape)
        mask[target] = solid[crop]
        return mask, int(solid.sum())

    def _inside(self, item: ObjectSpec) -> bool:
        (x, y), margin = item.centre, _reach(item)
        width, height = self._size
        return margin <= x <= width - margin and margin <= y <= height - margin


def _reach(item: ObjectSpec) -> float:
    """Radius in pixels that certainly holds the object; a figure's box may be as wide as high."""
    return item.diameter * (0.71 if item.is_figure else reach(item.kind))


def _near(first: ObjectSpec, second: ObjectSpec) -> bool:
    gap = 1.5 + 0.04 * min(first.diameter, second.diameter)
    return math.dist(first.centre, second.centre) < _reach(first) + _reach(second) + gap


def told_apart(item: ObjectSpec, others: Iterable[ObjectSpec]) -> bool:
    """Whether `item` could not run together with those of the `others` that may touch it."""
    return all(_differ(item, other) for other in others if _near(item, other))


def _differ(first: ObjectSpec, second: ObjectSpec) -> bool:
    return all(
        difference(one, two) >= _TOUCHING_COLOURS for one in _colours(first) for two in _colours(second)
    )


def _colours(item: ObjectSpec) -> list[Lab]:
    tones: list[RGB] = [item.rgb]
    if item.figure is not None:
        wear = item.figure.colours
        tones = [wear[name] for name in ("shirt", "trousers", "skin", "coat") if name in wear]
    return [lab(tone) for tone in tones]
