from __future__ import annotations

from random import Random

import numpy as np
import pytest

from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.figures import KEYPOINTS, extent, parts
from visionllm_sdk.scenes.manners import redrawn
from visionllm_sdk.scenes.poses import POSES
from visionllm_sdk.scenes.spec import SceneSpec

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
    assert worn == usual | further | {"line", "silhouette"}


def test_a_line_is_drawn_around_the_parts() -> None:
    spec = next(
        spec
        for seed in range(200)
        if (spec := sample_scene(seed, options=OPTIONS)).objects
        and {"line", "silhouette"} & set(spec.objects[0].figure.colours) == {"line"}  # type: ignore[union-attr]
    )
    item = spec.objects[0]
    assert item.figure is not None
    bare = {name: rgb for name, rgb in item.figure.colours.items() if name != "line"}
    plain = item.model_copy(update={"figure": item.figure.model_copy(update={"colours": bare})})
    with_line, without = render(spec), render(spec.model_copy(update={"objects": (plain,)}))
    assert np.array_equal(with_line.visible, without.visible)
    ink = np.array(item.figure.colours["line"])
    near = [(np.abs(np.asarray(one.image) - ink).sum(-1) < 12).sum() for one in (with_line, without)]
    assert near[0] > near[1] + 40


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
