from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.figures import KEYPOINTS, extent, parts
from visionllm_sdk.scenes.manners import redrawn
from visionllm_sdk.scenes.poses import POSES
from visionllm_sdk.scenes.spec import Figure, SceneSpec

OPTIONS = SceneOptions(canvas=(160, 160), figures=1.0, manners=1.0, figure_extent=(0.5, 0.9), objects=(1, 1))


@pytest.mark.parametrize("kind", ["person", "dog"])
@pytest.mark.parametrize("seed", range(25))
def test_a_redrawn_figure_has_all_its_joints_near_it(kind: str, seed: int) -> None:
    dice = Dice(seed)
    figure = redrawn(kind, POSES[kind](dice, lambda _: True), dice, lambda _: True)
    assert tuple(figure.joints) == KEYPOINTS[kind]
    x1, y1, x2, y2 = extent(parts(kind, figure))
    assert 0.3 < max(x2 - x1, y2 - y1) < 2.2
    for x, y in figure.joints.values():
        assert x1 <= x <= x2
        assert y1 <= y <= y2


@pytest.mark.parametrize("kind", ["person", "dog"])
def test_manners_differ(kind: str) -> None:
    def one(seed: int) -> set[str]:
        dice = Dice(seed)
        figure = redrawn(kind, POSES[kind](dice, lambda _: True), dice, lambda _: True)
        if "silhouette" in figure.colours:
            assert len({part.rgb for part in parts(kind, figure)}) == 1
        return set(figure.colours)

    worn = set[str]().union(*(one(seed) for seed in range(60)))
    usual = set(POSES[kind](Dice(0), lambda _: True).colours)
    further = {"person": {"skirt", "shorts", "cuffs", "mane"}, "dog": {"patch", "pointed"}}[kind]
    assert worn == usual | further | {"line", "contour", "silhouette"}


def test_dogs_sit_and_lie_and_are_of_many_builds() -> None:
    def one(seed: int) -> Figure:
        dice = Dice(seed)
        return redrawn("dog", POSES["dog"](dice, lambda _: True), dice, lambda _: True)

    dogs = [one(seed) for seed in range(60)]
    seated = [dog for dog in dogs if dog.joints["root_of_tail"][1] > dog.joints["neck"][1] + 0.3]
    lying = [dog for dog in dogs if max(dog.joints[f"{s}_front_paw"][1] for s in ("left", "right")) < 0.16]
    assert 4 < len(seated) < 20
    assert 2 < len(lying) < 20
    assert {"curl", "dots"} <= {name for dog in dogs for name in dog.build}
    assert len({dog.build["trunk"] for dog in dogs}) > 40
    assert not POSES["dog"](Dice(0), lambda _: True).build


@pytest.mark.parametrize("curl", [0.0, 60.0, -200.0])
def test_a_tail_goes_from_its_root_to_its_tip(curl: float) -> None:
    dog = POSES["dog"](Dice(3), lambda _: True)
    assert dog.tail is not None
    curled = dog.model_copy(update={"build": {"curl": curl}})
    tail = next(part.points for part in parts("dog", curled) if part.points[0] == dog.joints["root_of_tail"])
    assert tail[-1] == pytest.approx(dog.tail)
    way = sum(math.dist(one, other) for one, other in pairwise(tail))
    turn = abs(math.radians(curl))
    arc = turn / (2 * math.sin(turn / 2)) if turn else 1.0
    assert way == pytest.approx(math.dist(dog.joints["root_of_tail"], dog.tail) * arc, rel=0.02)


@pytest.mark.parametrize(("name", "other"), [("line", "contour"), ("contour", "line")])
def test_a_line_is_drawn_around_the_parts(name: str, other: str) -> None:
    drawn = (sample_scene(seed, options=OPTIONS) for seed in range(400))
    spec = next(
        spec
        for spec in drawn
        if spec.objects and {name, other, "silhouette"} & set(spec.objects[0].figure.colours) == {name}  # type: ignore[union-attr]
    )
    item = spec.objects[0]
    assert item.figure is not None
    bare = {part: rgb for part, rgb in item.figure.colours.items() if part != name}
    plain = item.model_copy(update={"figure": item.figure.model_copy(update={"colours": bare})})
    with_line, without = render(spec), render(spec.model_copy(update={"objects": (plain,)}))
    assert np.array_equal(with_line.visible, without.visible)
    ink = np.array(item.figure.colours[name])
    near = [(np.abs(np.asarray(one.image) - ink).sum(-1) < 12).sum() for one in (with_line, without)]
    assert near[0] > near[1] + 25


def test_manners_are_drawn_only_where_they_are_wanted() -> None:
    for seed in range(40):
        spec = sample_scene(seed, options=OPTIONS.model_copy(update={"manners": 0.0}))
        for item in spec.objects:
            assert item.figure is not None
            assert len(item.figure.colours) in (3, 5)


def test_a_scene_of_other_manners_survives_json() -> None:
    rng = Random(1)
    for _ in range(5):
        spec = sample_scene(rng.randrange(10_000), options=OPTIONS)
        assert SceneSpec.model_validate_json(spec.model_dump_json()) == spec
        known = truth(spec, render(spec))
        for item, box in zip(spec.objects, known.boxes, strict=True):
            assert item.is_figure
            assert box[2] - box[0] > 8
