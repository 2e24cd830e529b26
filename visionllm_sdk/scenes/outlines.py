"""The contours of the shapes, as polygons in units of half their extent.

A contour is a list of closed rings of points, (K, 2) float64 with x to the right and y down: the first ring
is filled, the others are holes. Ten shapes are drawn in every scene; four more are held back for adapters.

A square stays a square however it is turned; a *diamond* is a rhombus clearly narrower than high, so that the
two never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
Contour = list[Ring]


def contour(kind: str, proportion: float) -> Contour:
    """Rings of an upright shape about the origin; the longer side of its box is 2.

    Args:
        kind: one of `SHAPES` or `HELD_BACK_SHAPES`.
        proportion: 0..1, from the slim to the stout form of the kind.
    """
    rings = _BUILDERS[kind](proportion)
    outer = rings[0]
    low, high = outer.min(axis=0), outer.max(axis=0)
    return [(ring - (low + high) / 2) * (2 / (high - low).max()) for ring in rings]


def reach(kind: str) -> float:
    """Farthest that a turned shape reaches from its centre, as a share of its extent."""
    return _REACH.get(kind, 0.71)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _points(*pairs: tuple[float, float]) -> Ring:
    return np.array(pairs, dtype=np.float64)


def _arc(
    start: float, stop: float, count: int, radius: float = 1.0, centre: tuple[float, float] = (0, 0)
) -> Ring:
    angles = np.radians(np.linspace(start, stop, count))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + centre


def _regular(corners: int, radius: float = 1.0) -> Ring:
    """Corners of a regular polygon, the first at the top."""
    return _arc(-90, 270, corners + 1, radius)[:-1]


def _circle(_: float) -> Contour:
    return [_regular(64)]


def _square(_: float) -> Contour:
    return [_points((-1, -1), (1, -1), (1, 1), (-1, 1))]


def _triangle(share: float) -> Contour:
    height = _between(1.5, 2.0, share)
    return [_points((0, -height), (1, 0), (-1, 0))]


def _star(share: float) -> Contour:
    inner = _between(0.36, 0.49, share)
    star = np.empty((10, 2))
    star[0::2] = _regular(5)
    star[1::2] = -_regular(5, inner)[[3, 4, 0, 1, 2]]
    return [star]


def _pentagon(_: float) -> Contour:
    return [_regular(5)]


def _heart(share: float) -> Contour:
    angle = np.linspace(0, 2 * np.pi, 49)[:-1]
    sine = np.sin(angle)
    x = 16 * np.sign(sine) * np.abs(sine) ** _between(3.1, 2.1, share)
    y = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    return [np.stack([x, -y], axis=1)]


def _cross(share: float) -> Contour:
    arm = _between(0.23, 0.38, share)
    return [
        _points(
            (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
            (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
        )
    ]  # fmt: skip


def _diamond(share: float) -> Contour:
    half = _between(0.48, 0.7, share)
    return [_points((0, -1), (half, 0), (0, 1), (-half, 0))]


def _ring(share: float) -> Contour:
    return [_regular(64), _regular(48, _between(0.7, 0.48, share))]


def _crescent(share: float) -> Contour:
    """A disc with a bite: an arc of the unit circle, closed by the arc of a second circle to the right."""
    shift, radius = _between(0.37, 0.56, share), _between(0.87, 0.78, share)
    x = (1 - radius**2 + shift**2) / (2 * shift)
    tip = np.degrees(np.arccos(x))
    inner = np.degrees(np.arctan2(np.sqrt(1 - x**2), x - shift))
    outside = _arc(tip, 360 - tip, 48)
    inside = _arc(360 - inner, inner, 36, radius, (shift, 0))
    return [np.concatenate([outside, inside[1:-1]])]


def _gear(share: float) -> Contour:
    teeth, root, half = 8, _between(0.74, 0.78, share), 360 / 8
    ring = [
        _arc(start + offset, start + offset, 1, radius)[0]
        for start in (-90 + tooth * 360 / teeth for tooth in range(teeth))
        for offset, radius in ((-0.3 * half, root), (-0.2 * half, 1), (0.2 * half, 1), (0.3 * half, root))
    ]
    return [np.array(ring), _regular(32, _between(0.25, 0.35, share))]


def _arrow(share: float) -> Contour:
    shaft, neck, head = _between(0.16, 0.24, share), 0.1, 0.62
    return [
        _points((-1, -shaft), (neck, -shaft), (neck, -head), (1, 0), (neck, head), (neck, shaft), (-1, shaft))
    ]


def _key(share: float) -> Contour:
    """A round bow with a hole, a shaft to the right and two teeth below."""
    half, tooth = _between(0.09, 0.13, share), _between(0.26, 0.34, share)
    join = np.degrees(np.arcsin(half / 0.45))
    bow = _arc(join, 360 - join, 40, 0.45, (-0.55, 0))
    shaft = _points(
        (1, -half),
        (1, tooth),
        (0.84, tooth),
        (0.84, half),
        (0.7, half),
        (0.7, tooth),
        (0.54, tooth),
        (0.54, half),
    )
    return [np.concatenate([bow, shaft]), _arc(0, 345, 24, 0.22, (-0.6, 0))]


def _house(share: float) -> Contour:
    """Walls, a roof with eaves and a chimney, and a doorway."""
    eave, wall = _between(0.95, 1.05, share), 0.78
    outer = _points(
        (-wall, 1), (-wall, -0.05), (-eave, -0.05), (0, -1), (0.42, -0.6), (0.42, -0.95), (0.64, -0.95),
        (0.64, -0.39), (eave, -0.05), (wall, -0.05), (wall, 1),
    )  # fmt: skip
    return [outer, _points((-0.2, 0.99), (-0.2, 0.35), (0.2, 0.35), (0.2, 0.99))]


_REACH: Final = {
    "circle": 0.5, "ring": 0.5, "diamond": 0.5, "gear": 0.52, "key": 0.54, "pentagon": 0.57, "cross": 0.55,
    "star": 0.57, "crescent": 0.59, "arrow": 0.55, "heart": 0.59, "square": 0.708,
}  # fmt: skip

_BUILDERS: Final[dict[str, Callable[[float], Contour]]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "pentagon": _pentagon,
    "heart": _heart, "cross": _cross, "diamond": _diamond, "ring": _ring, "crescent": _crescent,
    "gear": _gear, "arrow": _arrow, "key": _key, "house": _house,
}  # fmt: skip
