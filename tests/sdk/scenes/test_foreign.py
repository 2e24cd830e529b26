"""The foreign drawings are themselves right, and agree with the generator on what a shape is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.foreign_scenes import INSIDE, coverage, foreign_scene
from visionllm_sdk.scenes.facts import COLOURS, SHAPES
from visionllm_sdk.scenes.render import render
from visionllm_sdk.scenes.spec import Background, ObjectSpec, SceneSpec


@pytest.mark.parametrize("kind", SHAPES)
def test_both_ways_of_drawing_mean_the_same_shape(kind: str) -> None:
    item = ObjectSpec(
        kind=kind, colour="red", rgb=(220, 0, 0), size="large", centre=(60, 60), diameter=80, rotation=25
    )
    ours = SceneSpec(
        width=120, height=120, background=Background(kind="plain", tones=((255, 255, 255),)), objects=(item,)
    )
    theirs = coverage(INSIDE[kind], 120, 120, x=60, y=60, radius=40, turn=np.radians(25)) > 0.5
    mask = render(ours).visible[0]
    assert (mask & theirs).sum() / (mask | theirs).sum() > 0.8


def test_scenes_have_truth() -> None:
    seen = set()
    for seed in range(40):
        scene = foreign_scene(seed, width=160, height=128)
        assert scene.image.size == (160, 128)
        assert len(scene.masks) == len(scene.facts.objects)
        assert scene.masks.sum(axis=0).max(initial=0) <= 1
        for fact, mask in zip(scene.facts.objects, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert fact.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            seen.add((fact.kind, fact.colour))
    assert {kind for kind, _ in seen} == set(SHAPES)
    assert {colour for _, colour in seen} == set(COLOURS)


def test_a_seed_fixes_the_picture() -> None:
    assert foreign_scene(3).image.tobytes() == foreign_scene(3).image.tobytes()
    assert foreign_scene(3).image.tobytes() != foreign_scene(4).image.tobytes()
