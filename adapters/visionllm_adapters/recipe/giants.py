"""One shape that fills most of a picture: people draw that, and scenes never do."""

from __future__ import annotations

import math
from random import Random
from typing import Final

from visionllm_sdk.scenes.outlines import reach
from visionllm_sdk.scenes.spec import ObjectSpec, SceneSpec

_SHARES: Final = (0.45, 0.98)
_UPRIGHT: Final = 5.0
_CUT: Final = 1.08
"""How far a turned shape may reach over the border, as a share of the canvas' shorter side."""


def with_giant(spec: SceneSpec, rng: Random) -> SceneSpec:
    """The scene with its first shape enlarged; what stood where that now stands is left out.

    Args:
        spec: any scene; one without shapes comes back as it is.
        rng: chooses the size, 0.45 to 0.98 of the shorter side, the turn and the place.
    """
    shapes = [item for item in spec.objects if not item.is_figure]
    if not shapes:
        return spec
    giant = _enlarged(shapes[0], (spec.width, spec.height), rng)
    radius = reach(giant.kind) * giant.diameter
    beside = [
        item
        for item in spec.objects
        if item is not shapes[0] and math.dist(item.centre, giant.centre) > radius + 0.75 * item.diameter
    ]
    return spec.model_copy(update={"objects": (giant, *beside)})


def _enlarged(item: ObjectSpec, size: tuple[int, int], rng: Random) -> ObjectSpec:
    short = min(size)
    diameter, turn = rng.uniform(*_SHARES) * short, rng.uniform(-_UPRIGHT, _UPRIGHT)
    if rng.random() < 0.4:
        turn = item.rotation
        diameter = min(diameter, _CUT * short / (2 * reach(item.kind)))
    half = diameter / 2
    x, y = (rng.uniform(half, side - half) for side in size)
    return item.model_copy(
        update={
            "diameter": round(diameter, 2),
            "size": "large",
            "rotation": round(turn, 2),
            "centre": (round(x, 2), round(y, 2)),
        }
    )
