from __future__ import annotations

import numpy as np
import pytest

from visionllm_sdk.scenes.facts import HELD_BACK_SHAPES, SHAPES
from visionllm_sdk.scenes.outlines import contour, reach
from visionllm_sdk.scenes.render import render
from visionllm_sdk.scenes.spec import Background, ObjectSpec, SceneSpec


def drawn(
    kind: str, *, rotation: float = 0.0, diameter: float = 100.0, proportion: float = 0.5
) -> np.ndarray:
    item = ObjectSpec(
        kind=kind, colour="red", rgb=(220, 20, 20), size="large", centre=(80.0, 80.0), diameter=diameter,
        rotation=rotation, proportion=proportion,
    )  # fmt: skip
    background = Background(kind="plain", tones=((255, 255, 255),))
    return render(SceneSpec(width=160, height=160, background=background, objects=(item,))).visible[0]


def extent(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize("kind", SHAPES + HELD_BACK_SHAPES)
@pytest.mark.parametrize("proportion", [0.0, 0.5, 1.0])
def test_upright_shapes_are_as_large_as_their_diameter(kind: str, proportion: float) -> None:
    assert max(extent(drawn(kind, proportion=proportion))) == pytest.approx(100, abs=2.1)
    farthest = max(np.hypot(*ring.T).max() for ring in contour(kind, proportion))
    assert farthest / 2 <= reach(kind) + 1e-9


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("circle", np.pi / 4),
        ("square", 1.0),
        ("ring", np.pi / 4 * (1 - 0.59**2)),
        ("diamond", 0.59 / 2),
        ("cross", 2 * 0.305 - 0.305**2),
    ],
)
@pytest.mark.parametrize("rotation", [0.0, 33.0])
def test_areas_follow_from_geometry(kind: str, area: float, rotation: float) -> None:
    assert drawn(kind, rotation=rotation).sum() / 100**2 == pytest.approx(area, rel=0.02)


def test_the_hole_of_a_ring_is_not_the_ring() -> None:
    ring = drawn("ring")
    assert not ring[80, 80]
    assert ring[80, 80 + 40]


def test_a_turned_square_is_no_diamond() -> None:
    wide, high = extent(drawn("square", rotation=45))
    assert wide == pytest.approx(high, abs=1)
    for proportion in (0.0, 1.0):
        wide, high = extent(drawn("diamond", proportion=proportion))
        assert wide < 0.73 * high


def test_rotation_is_clockwise_on_the_screen() -> None:
    arrow = np.argwhere(drawn("arrow", rotation=90))  # points right when upright
    tip = arrow[arrow[:, 0].argmax()]
    assert tip[0] > 120
    assert tip[1] == pytest.approx(80, abs=3)


@pytest.mark.parametrize("kind", SHAPES)
def test_small_shapes_keep_enough_pixels(kind: str) -> None:
    mask = drawn(kind, diameter=10.3)
    assert mask.sum() >= 20


def test_a_star_has_five_points() -> None:
    star = contour("star", 0.5)[0]
    radius = np.hypot(*(star - star.mean(axis=0)).T)
    assert len(star) == 10
    assert (radius[0::2] > 2 * radius[1::2]).all()
