"""Region prompts as a user would draw them: a mask, a box, a point or a scribble on one object."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from visionllm_sdk.errors import InputError
from visionllm_sdk.geometry import Box, Mask, Point, Scribble
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.render import Mask as Pixels
from visionllm_sdk.scenes.truth import SceneTruth, mask_boxes

RegionKind = Literal["mask", "box", "point", "scribble"]
REGION_KINDS: Final[tuple[RegionKind, ...]] = ("mask", "box", "point", "scribble")
REGION_STREAM: Final = 3


def region_prompt(
    known: SceneTruth, index: int, kind: RegionKind, *, seed: int, careless: float = 0.04
) -> Box | Mask | Point | Scribble:
    """A region prompt on object number `index`.

    Masks are exact. Points and scribbles lie on the object's visible pixels, off its edge where they can.

    Args:
        known: the scene's truth.
        index: which object, in the order of the spec.
        kind: one of `REGION_KINDS`.
        seed: fixes where the user points.
        careless: how far the sides of a drawn box may be off, as a share of its own sides.

    Raises:
        InputError: when nothing of the object is visible.
    """
    if not known.masks[index].any():
        raise InputError("nothing of this object is visible", value=index, remedy="Choose another object.")
    return draw_prompt(known.masks[index], kind, seed=seed, careless=careless)


def draw_prompt(
    mask: Pixels, kind: RegionKind, *, seed: int, careless: float = 0.04
) -> Box | Mask | Point | Scribble:
    """A region prompt on what a mask marks; see `region_prompt`.

    Args:
        mask: (H, W) bool, not empty.
        kind: one of `REGION_KINDS`.
        seed: fixes where the user points.
        careless: how far the sides of a drawn box may be off, as a share of its own sides.
    """
    return _DRAWERS[kind](Dice(seed, stream=REGION_STREAM), mask, careless)


def _exact(dice: Dice, mask: Pixels, careless: float) -> Mask:
    return Mask.from_numpy(mask)


def _box(dice: Dice, mask: Pixels, careless: float) -> Box:
    x1, y1, x2, y2 = (float(value) for value in mask_boxes(mask[None])[0])
    height, width = mask.shape
    wide, high = careless * (x2 - x1), careless * (y2 - y1)
    return Box(
        max(x1 + dice.uniform(-wide, wide), 0.0),
        max(y1 + dice.uniform(-high, high), 0.0),
        min(x2 + dice.uniform(-wide, wide), width),
        min(y2 + dice.uniform(-high, high), height),
    )


def _point(dice: Dice, mask: Pixels, careless: float) -> Point:
    inner = _inner(mask)
    x, y = _pixel(dice, inner)
    return Point(x + 0.5, y + 0.5)


def _scribble(dice: Dice, mask: Pixels, careless: float) -> Scribble:
    """A walk that keeps its direction roughly and never leaves the object, the longest of a few."""
    inner = _inner(mask)
    rows, columns = np.nonzero(inner)
    step = max(max(np.ptp(rows), np.ptp(columns)) / 10, 1.0)
    walks = [_walk(dice, inner, step) for _ in range(4)]
    return Scribble([Point(round(x, 2), round(y, 2)) for x, y in max(walks, key=len)])


def _walk(dice: Dice, inner: Pixels, step: float) -> list[tuple[float, float]]:
    column, row = _pixel(dice, inner)
    path = [(column + 0.5, row + 0.5)]
    heading = dice.uniform(0, 2 * math.pi)
    for _ in range(dice.integer(6, 14)):
        for _ in range(6):
            turn = heading + dice.uniform(-0.9, 0.9)
            goal = path[-1][0] + step * math.cos(turn), path[-1][1] + step * math.sin(turn)
            if _clear(inner, path[-1], goal):
                path.append(goal)
                heading = turn
                break
            heading += dice.uniform(-1.5, 1.5)
        else:
            break
    return path


def _clear(inner: Pixels, start: tuple[float, float], goal: tuple[float, float]) -> bool:
    """Whether the straight line between two points stays on the object."""
    count = max(math.ceil(2 * math.dist(start, goal)), 1) + 1
    shares = np.linspace(0, 1, count)
    x = (start[0] + (goal[0] - start[0]) * shares).astype(int)
    y = (start[1] + (goal[1] - start[1]) * shares).astype(int)
    height, width = inner.shape
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        return False
    return bool(inner[y, x].all())


def _inner(mask: Pixels) -> Pixels:
    """The mask without its rim, up to three pixels wide where enough is left."""
    inner, total = mask, mask.sum()
    for _ in range(3):
        padded = np.pad(inner, 1)
        thinner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if thinner.sum() < 0.2 * total:
            break
        inner = thinner
    return inner


def _pixel(dice: Dice, mask: Pixels) -> tuple[int, int]:
    """Column and row of a random pixel of the mask."""
    rows, columns = np.nonzero(mask)
    place = dice.integer(0, len(rows) - 1)
    return int(columns[place]), int(rows[place])


_Drawer = Callable[[Dice, Pixels, float], Box | Mask | Point | Scribble]
_DRAWERS: Final[dict[RegionKind, _Drawer]] = {
    "mask": _exact,
    "box": _box,
    "point": _point,
    "scribble": _scribble,
}
